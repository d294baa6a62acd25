"""Runs the kernel for NVIDIA GPUs in Triton's interpreter, beside the plain form, case by case.

A process of its own: Triton decides when it is imported whether its functions are interpreted.
"""

import itertools
import os
import sys
from types import SimpleNamespace

os.environ["TRITON_INTERPRET"] = "1"

import jax
import jax.numpy as jnp
import numpy as np
import torch

from m2f_jax.ops.window_attention import window_attention

LAUNCH = ("name", "num_warps", "num_stages", "compute_capability")  # not of the kernel itself
CASES = [  # window size, heads, channels of a head, height and width of the map, images
    (12, 2, 32, (14, 13), 1),  # the published models', with padding on both sides
    (7, 1, 32, (14, 14), 1),
    (4, 2, 64, (3, 3), 2),  # one window, larger than the map
]


def interpret(*arguments, kernel, grid, out_shape, **options):
    """Stands in for `jax_triton.triton_call`: on the host, on PyTorch's tensors."""
    for name in LAUNCH:
        options.pop(name)
    result = torch.full(out_shape.shape, float("nan"), dtype=torch.float16)
    tensors = [torch.from_numpy(np.array(x)) if isinstance(x, jax.Array) else x for x in arguments]
    kernel[grid](*tensors, result, **options)
    return jnp.asarray(result.numpy())


def check(window_size, heads, width, size, images, shifted):
    """Compares one case with the plain form in float32."""
    rng = np.random.default_rng(0)
    channels, tokens = 3 * heads * width, window_size**2
    qkv = rng.normal(size=(images, *size, channels)).astype(np.float16)
    padding = rng.normal(size=channels).astype(np.float16)
    bias = rng.normal(size=(heads, tokens, tokens)).astype(np.float32)
    options = {"window_size": window_size, "shifted": shifted}
    ours = fused_window_attention(*map(jnp.asarray, (qkv, padding, bias)), **options)
    exact = (jnp.asarray(x, jnp.float32) for x in (qkv, padding, bias))
    with jax.default_matmul_precision("highest"):
        want = window_attention(*exact, **options)
    assert ours.dtype == jnp.float16
    np.testing.assert_allclose(ours, want, atol=4e-3)


if __name__ == "__main__":
    sys.modules["jax_triton"] = SimpleNamespace(triton_call=interpret)
    from m2f_jax.ops.window_attention_kernel import fits, fused_window_attention

    assert fits(12, 32)
    assert not fits(17, 32)
    assert not fits(12, 48)
    for case, shifted in itertools.product(CASES, (False, True)):
        check(*case, shifted)
        print(case, "shifted" if shifted else "")
