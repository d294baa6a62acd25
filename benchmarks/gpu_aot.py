"""Compiles inference and a training step for an H100 that isn't there, and shows what they take.

    pip install 'm2f-jax[aot,train]'
    python benchmarks/gpu_aot.py

The compiler is in JAX's CUDA plugin and needs no GPU. It can't try which algorithm is the fastest,
so this says nothing about speed; but how many kernels there are and how much memory they take comes
out as on the device, except where another algorithm would be chosen.
"""

import argparse
from collections.abc import Sequence

import jax
from ahead_of_time import compile_program, parse_options, partitioner_of, publish_rows
from h100 import h100, kernels, missing

from m2f_jax.training.partitioning import Partitioner

# Trying algorithms needs a device, and products of Triton's can't be chosen without trying them.
FLAGS = {"xla_gpu_autotune_level": "0", "xla_gpu_enable_triton_gemm": False}


def one_gpu() -> Partitioner:
    """An H100 that needn't exist."""
    if packages := missing():
        raise SystemExit(
            f"gpu_aot.py needs {', '.join(packages)} to compile for a GPU: "
            "pip install 'm2f-jax[aot]'"
        )
    jax.config.update("jax_platforms", "cpu")
    return partitioner_of(h100())


def count_kernels(program: jax.stages.Compiled) -> dict[str, int]:
    """What is launched for one call, by kind: XLA's fusions, libraries' products, and the rest."""
    kinds = kernels(program)
    fusions, calls = kinds["fusion"], kinds["custom-call"]
    others = kinds.total() - fusions - calls
    return {"kernels": kinds.total(), "fusions": fusions, "library calls": calls, "others": others}


def main(arguments: Sequence[str] | None = None):
    """Compiles everything and prints one table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.set_defaults(train_batch=4, remat=False)
    options = parse_options(parser, arguments)
    partitioner = one_gpu()
    rows = [
        compile_program(name, options, partitioner, count_kernels, FLAGS)
        for name in options.programs
    ]
    publish_rows("gpu_aot", "an H100", options, rows, "jax-cuda12-plugin")


if __name__ == "__main__":
    main()
