"""The machine of a benchmark: device, processors, packages, memory."""

import contextlib
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

NEEDS = {  # the packages of each peer, and how to get them
    "transformers": (("torch", "transformers"), "pip install 'm2f-jax[torch]'"),
    "zeromodels": (("keras", "zeromodels"), "pip install zeromodels keras"),
    "openvino": (("openvino", "torch", "transformers"), "pip install 'm2f-jax[torch]' openvino"),
    "onnx": (("onnx", "onnxruntime", "openvino"), "pip install 'm2f-jax[onnx]'"),
    "app": (("gradio",), "pip install 'm2f-jax[app]'"),
    "torch-ms-deform-attn": (("torch_ms_deform_attn",), "pip install torch-ms-deform-attn"),
}


def check_installed(peers: Sequence[str]):
    """Ends the script if a peer lacks a package."""
    for peer in peers:
        packages, remedy = NEEDS[peer]
        if missing := [name for name in packages if importlib.util.find_spec(name) is None]:
            raise SystemExit(f"{peer} needs {' and '.join(missing)}: {remedy}")


def choose_device(wanted: str | None) -> str:
    """Returns the device that was asked for, or cuda where both frameworks see a GPU."""
    if wanted == "cpu":
        return wanted
    import jax
    import torch

    blind = []
    if not torch.cuda.is_available():
        blind.append("PyTorch")
    try:
        jax.devices("cuda")
    except RuntimeError:
        blind.append("JAX (pip install 'm2f-jax[cuda12]')")
    if wanted and blind:
        raise SystemExit(f"--device cuda: there is no CUDA device for {' and '.join(blind)}")
    return "cpu" if blind else "cuda"


def device_kind(device: str) -> str:
    """Returns the name of a GPU, or "cpu"."""
    if device == "cpu":
        return device
    import torch

    return torch.cuda.get_device_name()


def jax_device_kind() -> str:
    """Returns the name of the first device that JAX sees."""
    import jax

    return jax.devices()[0].device_kind


def limit_threads(wanted: int | None) -> int:
    """Limits this process and its children to so many processors; returns how many these are."""
    if not hasattr(os, "sched_setaffinity"):
        if wanted:
            raise SystemExit("--threads works on Linux only")
        return os.cpu_count() or 1
    available = sorted(os.sched_getaffinity(0))
    if wanted:
        if not 1 <= wanted <= len(available):
            raise SystemExit(f"--threads: 1 to {len(available)} here, not {wanted}")
        os.sched_setaffinity(0, available[:wanted])
    return wanted or len(available)


def share_device(wanted: str | None):
    """Keeps JAX from taking a GPU's whole memory, and from a GPU if a CPU was asked for."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if wanted == "cpu":
        os.environ["JAX_PLATFORMS"] = "cpu"


def describe_run(
    measured: Mapping[str, Any], *packages: str, peers: Sequence[str] = ()
) -> dict[str, dict[str, Any]]:
    """Returns machine, versions, settings and the load; call it before measuring."""
    machine = {"CPU": processor_name(), "processors": os.cpu_count(), "system": platform.system()}
    load = {"load before": round(os.getloadavg()[0], 1)}
    found = versions(*packages, *(package for peer in peers for package in NEEDS[peer][0]))
    return {"machine": machine, "versions": found, "measured": {**measured, **load}}


def processor_name() -> str:
    """Returns the model of the CPU."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions(*packages: str) -> dict[str, str]:
    """Returns the versions of Python, this project, JAX and others that are installed."""
    found = {"python": platform.python_version()}
    with contextlib.suppress(OSError, subprocess.CalledProcessError):  # no git, or no checkout
        found["commit"] = subprocess.run(
            ["git", "describe", "--always", "--dirty"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    own = ("m2f-jax", "jax", "jaxlib", "flax", "numpy")
    for package in (*own, *packages):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def peak_host_bytes() -> int:
    """Returns the most memory that this process has held."""
    with contextlib.suppress(OSError):  # on Linux, where getrusage counts the parent's memory too
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
