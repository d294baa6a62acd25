"""The kernel for NVIDIA GPUs computes what the plain form computes, in Triton's interpreter."""

import importlib.util
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops.window_attention import window_attention

pytestmark = [
    pytest.mark.torch,
    pytest.mark.skipif(
        importlib.util.find_spec("triton") is None,
        reason="needs triton, which PyTorch's build for CUDA brings: pip install triton",
    ),
]

LAUNCH = ("name", "num_warps", "num_stages", "compute_capability")  # not of the kernel itself


@pytest.fixture
def kernel(monkeypatch, request):
    """The kernel's module, whose kernels are interpreted."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setitem(sys.modules, "jax_triton", SimpleNamespace(triton_call=interpret))
    return request.getfixturevalue("window_attention_kernel")


def interpret(*arguments, kernel, grid, out_shape, **options):
    """Stands in for `jax_triton.triton_call`: on the host, on PyTorch's tensors."""
    import torch

    for name in LAUNCH:
        options.pop(name)
    result = torch.full(out_shape.shape, float("nan"), dtype=torch.float16)
    tensors = [torch.from_numpy(np.array(x)) if isinstance(x, jax.Array) else x for x in arguments]
    kernel[grid](*tensors, result, **options)
    return jnp.asarray(result.numpy())


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize(
    ("window_size", "heads", "width", "size"),
    [
        (12, 2, 32, (14, 13)),  # the published models', with padding on both sides
        (7, 1, 32, (14, 14)),
        (4, 2, 64, (3, 3)),  # one window, larger than the map
    ],
)
def test_equals_the_plain_form(kernel, window_size, heads, width, size, shifted):
    rng = np.random.default_rng(0)
    channels, tokens = 3 * heads * width, window_size**2
    qkv = rng.normal(size=(1 + (window_size == 4), *size, channels)).astype(np.float16)
    padding = rng.normal(size=channels).astype(np.float16)
    bias = rng.normal(size=(heads, tokens, tokens)).astype(np.float32)
    options = {"window_size": window_size, "shifted": shifted}
    ours = kernel.fused_window_attention(*map(jnp.asarray, (qkv, padding, bias)), **options)
    exact = (jnp.asarray(x, jnp.float32) for x in (qkv, padding, bias))
    with jax.default_matmul_precision("highest"):
        want = window_attention(*exact, **options)
    assert ours.dtype == jnp.float16
    np.testing.assert_allclose(ours, want, atol=4e-3)


def test_sizes_that_fit(kernel):
    assert kernel.fits(12, 32)
    assert not kernel.fits(17, 32)
    assert not kernel.fits(12, 48)
