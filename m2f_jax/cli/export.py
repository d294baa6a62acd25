"""`m2f export`."""

import dataclasses
import time

from m2f_jax.cli.arguments import Export, parse_size
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.inference.export.running import arrays_file
from m2f_jax.inference.export.writing import check, export_model
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.pretrained import load

MEBI = 2**20


def run(command: Export) -> int:
    """Exports, and says what came out."""
    start = time.perf_counter()
    size = parse_size(command.size)
    platforms = [name.strip() for name in command.platforms.split(",") if name.strip()]
    check(command.file, size, command.task, platforms, overwrite=command.overwrite)
    opened = load(command.source, command.dtype, labels=command.labels, revision=command.revision)
    processor = opened.processor
    if command.native:
        processor = dataclasses.replace(processor, shortest_edge=None, longest_edge=None)
    header = export_model(
        Segmenter(opened.model, processor),
        command.file,
        size,
        command.task,
        platforms=platforms,
        overwrite=command.overwrite,
    )
    weights = arrays_file(command.file)
    size_mib = weights.stat().st_size / MEBI
    terminal(errors=False).print(
        f"{command.source} -> {command.file} and {weights} ({size_mib:.1f} MiB) in "
        f"{time.perf_counter() - start:.1f} s\n"
        f"{header.task} of images of {size[0]} x {size[1]} in {header.dtype}, "
        f"for {', '.join(header.platforms)}",
    )
    return 0
