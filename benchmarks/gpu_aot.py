"""Compiles inference and a training step for an H100 that isn't there, and shows what they take.

    pip install 'm2f-jax[aot,train]'
    python benchmarks/gpu_aot.py

The compiler is in JAX's CUDA plugin and needs no GPU. It can't try which algorithm is the fastest,
so this says nothing about speed; but how many kernels there are and how much memory they take comes
out as on the device, except where another algorithm would be chosen.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
from ahead_of_time import compiling
from ahead_of_time.compiling import compile_program, parse_options, partitioner_of, publish_rows
from ahead_of_time.h100 import h100, kernels, missing
from measuring.options import Count

from m2f_jax.training.partitioning import Partitioner

# Trying algorithms needs a device, and products of Triton's can't be chosen without trying them.
FLAGS = {"xla_gpu_autotune_level": "0", "xla_gpu_enable_triton_gemm": False}


@dataclass(frozen=True, kw_only=True)
class Options(compiling.Options):
    """Compile inference and a training step for an H100 that isn't there."""

    train_batch: Count = 4
    """Images of a training step."""


def one_gpu() -> Partitioner:
    """Returns a partition that has everything on one H100, which needn't exist."""
    if packages := missing():
        raise SystemExit(
            f"gpu_aot.py needs {', '.join(packages)} to compile for a GPU: "
            "pip install 'm2f-jax[aot]'"
        )
    jax.config.update("jax_platforms", "cpu")
    return partitioner_of(h100())


def count_kernels(program: jax.stages.Compiled) -> dict[str, int]:
    """Returns how many kernels a call launches: XLA's fusions, libraries' products, the rest."""
    kinds = kernels(program)
    fusions, calls = kinds["fusion"], kinds["custom-call"]
    others = kinds.total() - fusions - calls
    return {"kernels": kinds.total(), "fusions": fusions, "library calls": calls, "others": others}


def main(arguments: Sequence[str] | None = None):
    """Compiles everything and prints one table."""
    options = parse_options(Options, arguments)
    partitioner = one_gpu()
    rows = [
        compile_program(name, options, partitioner, count_kernels, FLAGS)
        for name in options.programs
    ]
    publish_rows("gpu_aot", "an H100", options, rows, "jax-cuda12-plugin")


if __name__ == "__main__":
    main()
