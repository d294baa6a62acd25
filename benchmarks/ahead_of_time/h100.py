"""An H100 for XLA to compile for, where there is none; the CUDA plugin has all that it takes."""

import importlib.util
import re
from collections import Counter
from typing import Any

import jax
from jax.experimental import topologies

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


def missing() -> list[str]:
    """Returns the packages that are missing here for compiling."""
    return [package for module, package in NEEDED.items() if not installed(module)]


def installed(module: str) -> bool:
    """Returns whether a module can be imported; its package may be missing, too."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def h100() -> Any:
    """Returns the device to compile for; nothing can be computed on it.

    JAX must be kept from looking for a GPU: JAX_PLATFORMS=cpu.
    """
    return topologies.get_topology_desc(
        platform="cuda", target_config=H100, topology="1x1x1"
    ).devices[0]


def kernels(program: jax.stages.Compiled) -> Counter[str]:
    """Returns how many instructions of each kind run on the device and cost something.

    What is in loops is counted as the loop, once.
    """
    text = program.as_text() or ""
    entry = text.split("\nENTRY ")[1].split("\n}")[0]
    kinds = Counter(re.findall(r"^  (?:ROOT )?%\S+ = .*?\}?\)? ([a-z\-]+)\(", entry, re.MULTILINE))
    for free in ("parameter", "constant", "bitcast", "tuple", "get-tuple-element"):
        del kinds[free]
    return kinds
