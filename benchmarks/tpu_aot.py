"""Compiles inference and a training step for a TPU that isn't there, and shows what they take.

    pip install 'm2f-jax[tpu,train]'
    python benchmarks/tpu_aot.py --topology v5e:2x2

The compiler comes with libtpu and needs no TPU, so this says that the programs compile for one chip
and how much of its memory they take, and nothing about their speed: the compiler's own estimates
leave gathers out. It fails if inference takes more than 2 GiB of temporaries.
"""

import importlib.util
import os
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from ahead_of_time import compiling
from ahead_of_time.compiling import compile_program, parse_options, partitioner_of, publish_rows
from jax.experimental import topologies

from m2f_jax.training.partitioning import Partitioner

MOST_TEMPORARIES = 2048  # MiB, of inference


@dataclass(frozen=True, kw_only=True)
class Options(compiling.Options):
    """Compile inference and a training step for a TPU that isn't there, and show what they take."""

    topology: str = "v5e:2x2"
    """Such as v6e:2x2; one chip is used."""
    remat: bool = True
    """Compute blocks again for a gradient."""


def one_chip(topology: str) -> Partitioner:
    """Returns a partition that has everything on one chip, which needn't exist."""
    # A second process may load the library; there is no cloud to ask for a chip.
    os.environ.update(ALLOW_MULTIPLE_LIBTPU_LOAD="1", TPU_SKIP_MDS_QUERY="1")
    if importlib.util.find_spec("libtpu") is None:
        raise SystemExit("tpu_aot.py needs TPU's compiler: pip install 'm2f-jax[tpu]'")
    jax.config.update("jax_platforms", "cpu")
    return partitioner_of(topologies.get_topology_desc(topology, platform="tpu").devices[0])


def program_size(program: jax.stages.Compiled) -> dict[str, float]:
    """Returns the size of the code, which lies in the chip's memory, too."""
    size = program.memory_analysis().generated_code_size_in_bytes  # pyright: ignore
    return {"program size MiB": size / 2**20}


def main(arguments: Sequence[str] | None = None):
    """Compiles everything and prints one table."""
    options = parse_options(Options, arguments)
    partitioner = one_chip(options.topology)
    rows = [compile_program(name, options, partitioner, program_size) for name in options.programs]
    device = f"one chip of {options.topology}"
    publish_rows("tpu_aot", device, options, rows, "libtpu")
    for row in rows:
        if row["program"] == "inference" and row["temporaries MiB"] > MOST_TEMPORARIES:
            raise SystemExit("inference takes more than 2 GiB of temporaries")


if __name__ == "__main__":
    main()
