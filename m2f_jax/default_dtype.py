"""The default dtype of computation, and whether this processor computes bfloat16 fast."""

from pathlib import Path
from typing import Literal

import jax

Dtype = Literal["float32", "bfloat16"]
CPU_INFO = Path("/proc/cpuinfo")  # of Linux
FOR_BFLOAT16 = {"avx512_bf16", "amx_bf16"}


def default_dtype() -> Dtype:
    """Returns float32 on a CPU, where results equal the authors', bfloat16 on a GPU or TPU."""
    return "float32" if jax.default_backend() == "cpu" else "bfloat16"


def multiplies_bfloat16(cpu_info: str) -> bool | None:
    """Returns whether an x86 processor has instructions for products of bfloat16.

    Args:
        cpu_info: the content of /proc/cpuinfo.

    Returns:
        None if that isn't known, as of other kinds of processors.
    """
    for line in cpu_info.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "flags":
            return not FOR_BFLOAT16.isdisjoint(value.split())
    return None


def slow_bfloat16(dtype: str) -> str:
    """Returns a warning if `dtype` is slow on this processor; else an empty text."""
    if dtype != "bfloat16" or jax.default_backend() != "cpu" or not CPU_INFO.is_file():
        return ""
    if multiplies_bfloat16(CPU_INFO.read_text(errors="replace")) is not False:
        return ""
    return (
        "this processor has no instructions for bfloat16 (AVX512-BF16 or AMX), so float32 is "
        "probably faster here: --dtype float32 (of m2f export, if the file is an exported one)"
    )
