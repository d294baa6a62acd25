"""What XLA makes of the deformable-attention operator on an H100, compiled without one.

Its time is that of its memory traffic, so its samples must never be laid down in memory, and XLA's
decision to fuse them changes with its version. The compiler is in the CUDA plugin and needs no GPU.
"""

import functools
import importlib.util
import os
import re
from collections import Counter

import jax
import jax.numpy as jnp
import pytest
from jax.experimental import topologies

from m2f_jax.ops.ms_deform_attn import ms_deform_attn

NEEDED = {
    "jax_cuda12_plugin": "jax-cuda12-plugin",
    "jax_plugins.xla_cuda12": "jax-cuda12-pjrt",
    "nvidia.cuda_nvcc": "nvidia-cuda-nvcc-cu12",
}

# What the compiler asks of a device, as an H100 SXM with CUDA 12.8 answers.
H100 = """
platform_name: "CUDA"
device_description_str: "NVIDIA H100 80GB HBM3"
runtime_version { major: 12 minor: 8 }
dnn_version_info { major: 9 minor: 8 }
gpu_device_info {
  cuda_compute_capability { major: 9 }
  core_count: 132
  clock_rate_ghz: 1.98
  fpus_per_core: 128
  threads_per_warp: 32
  threads_per_block_limit: 1024
  threads_per_core_limit: 2048
  block_dim_limit_x: 2147483647
  block_dim_limit_y: 65535
  block_dim_limit_z: 65535
  registers_per_block_limit: 65536
  registers_per_core_limit: 65536
  shared_memory_per_block: 49152
  shared_memory_per_block_optin: 232448
  shared_memory_per_core: 233472
  l2_cache_size: 52428800
  device_memory_size: 84929347584
  memory_bandwidth: 3352320000000
}
"""

SIZES = ((32, 64), (64, 128), (128, 256))  # of a 1024 x 2048 image
TOKENS = sum(height * width for height, width in SIZES)
HEADS, WIDTH, POINTS = 8, 32, 4


def installed(module: str) -> bool:
    """Whether a module could be imported, of packages that may be missing as well."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


MISSING = [package for module, package in NEEDED.items() if not installed(module)]
pytestmark = [
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
    topology = topologies.get_topology_desc(platform="cuda", target_config=H100, topology="1x1x1")
    sharding = jax.sharding.SingleDeviceSharding(topology.devices[0])
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


def kernels(program: jax.stages.Compiled) -> Counter:
    """How many instructions of each kind run on the device, those that cost nothing left out."""
    entry = program.as_text().split("\nENTRY ")[1].split("\n}")[0]
    kinds = Counter(re.findall(r"^  (?:ROOT )?%\S+ = .*?\}?\)? ([a-z\-]+)\(", entry, re.MULTILINE))
    for free in ("parameter", "constant", "bitcast", "tuple", "get-tuple-element"):
        del kinds[free]
    return kinds


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
