"""What XLA makes of the network and of deformable attention on an H100, compiled without one.

The operator's time is that of its memory traffic, so its samples must never be laid down in memory,
and XLA's decision to fuse them changes with its version. The compiler is in the CUDA plugin and
needs no GPU.
"""

import functools
import os
import re

import jax
import jax.numpy as jnp
import pytest
from ahead_of_time import compiling
from ahead_of_time.compiling import compile_program, partitioner_of
from ahead_of_time.h100 import h100, kernels, missing
from gpu_aot import FLAGS, Options, count_kernels

from m2f_jax.modeling.parameters import abstract_model
from m2f_jax.ops.ms_deform_attn import ms_deform_attn

SIZES = ((32, 64), (64, 128), (128, 256))  # of a 1024 x 2048 image
TOKENS = sum(height * width for height, width in SIZES)
HEADS, WIDTH, POINTS = 8, 32, 4


MISSING = missing()
pytestmark = [
    pytest.mark.optimized,
    pytest.mark.skipif(
        bool(MISSING), reason=f"compiling for an H100 needs {', '.join(MISSING)}: the extra [aot]"
    ),
    pytest.mark.skipif(
        os.environ.get("JAX_PLATFORMS") != "cpu",
        reason="run it with JAX_PLATFORMS=cpu; otherwise the plugin looks for a GPU's libraries",
    ),
]


def layer_arrays() -> tuple[jax.ShapeDtypeStruct, ...]:
    """Values, locations, weights and the result of one layer of an image, on an H100."""
    sharding = jax.sharding.SingleDeviceSharding(h100())
    per_point = (1, TOKENS, HEADS, len(SIZES), POINTS)
    return tuple(
        jax.ShapeDtypeStruct(shape, dtype, sharding=sharding)
        for shape, dtype in (
            ((1, TOKENS, HEADS, WIDTH), jnp.bfloat16),
            ((*per_point, 2), jnp.float32),
            (per_point, jnp.float32),
            ((1, TOKENS, HEADS * WIDTH), jnp.bfloat16),
        )
    )


def attend(values, locations, weights):
    return ms_deform_attn(values, SIZES, locations, weights)


@functools.cache
def compiled(backward: bool) -> jax.stages.Compiled:
    """The operator as one layer of an image has it, or its derivative by all three arrays."""

    def derivative(values, locations, weights, gradient):
        return jax.vjp(attend, values, locations, weights)[1](gradient)

    *arrays, gradient = layer_arrays()
    if backward:
        return jax.jit(derivative).lower(*arrays, gradient).compile()
    return jax.jit(attend).lower(*arrays).compile()


def test_forward():
    program = compiled(backward=False)
    # Samples of one corner of one level, laid down in memory, would be 176 MB more.
    assert program.memory_analysis().temp_size_in_bytes < 110e6
    assert set(kernels(program)) == {"fusion"}
    assert kernels(program).total() <= 6


def test_backward():
    program = compiled(backward=True)
    assert program.memory_analysis().temp_size_in_bytes < 140e6
    assert set(kernels(program)) == {"fusion"}
    assert kernels(program).total() <= 24
    # Whole rows are added in float32: one scatter for each of 4 corners of 3 levels.
    scatters = re.findall(r" = (\w+)\[.*?\]\S* scatter\(", program.as_text())
    assert scatters == ["f32"] * 12


def test_corners_are_computed_again_and_late():
    """Of two layers, with forward and backward in one program. Kept corners would be 290 MB."""
    values, locations, weights, _ = layer_arrays()

    def total(values, layers):
        for layer in layers:
            values = attend(values, *layer).reshape(values.shape)
        return (values.astype(jnp.float32) ** 2).sum()

    derivative = jax.jit(jax.grad(total, argnums=(0, 1)))
    program = derivative.lower(values, [(locations, weights)] * 2).compile()
    assert program.memory_analysis().temp_size_in_bytes < 250e6


def test_inference_of_swin_large():
    """Of 1024 x 2048. With ReLUs beside their products there would be 35 kernels more."""
    row = compile_program("inference", Options(), partitioner_of(h100()), count_kernels, FLAGS)
    assert row["temporaries MiB"] < 1000
    assert row["kernels"] < 800


@pytest.mark.usefixtures("window_attention_kernel")
def test_inference_with_the_kernel(monkeypatch):
    """The logits of attention in windows stay on the chip: 96 kernels and 300 MiB less."""
    library = pytest.importorskip("jax_triton.triton_lib").triton_kernel_call_lib
    monkeypatch.setattr(library, "get_compute_capability", lambda _: 90)

    def fused(*arguments):
        model = abstract_model(*arguments)
        model.set_attributes(fused=True)
        return model

    monkeypatch.setattr(compiling, "abstract_model", fused)
    row = compile_program("inference", Options(), partitioner_of(h100()), count_kernels, FLAGS)
    assert row["temporaries MiB"] < 550
    assert row["kernels"] < 720
