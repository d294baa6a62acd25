"""`m2f convert`."""

import time

from m2f_jax.cli.arguments import Convert
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.config import MODELS
from m2f_jax.convert import convert


def run(command: Convert) -> int:
    """Converts a checkpoint, and prints a summary."""
    start = time.perf_counter()
    checkpoint = convert(
        command.source,
        command.folder,
        command.to,
        task=command.task,
        num_heads=command.num_heads,
        labels=command.labels,
        revision=command.revision,
        kind=None if command.kind is None else MODELS[command.kind],
        overwrite=command.overwrite,
    )
    config, processor = checkpoint.config, checkpoint.processor
    seconds = time.perf_counter() - start
    size = (
        f"shortest edge {processor.shortest_edge}, longest {processor.longest_edge}"
        if processor.shortest_edge
        else "native size"
    )
    terminal(errors=False).print(
        f"{command.source} -> {command.folder} in {seconds:.1f} s: {len(checkpoint.tensors)} "
        f"tensors, every one of the source's used or known as unused\n"
        f"{config.task} model, {config.num_classes} classes, "
        f"{config.decoder.num_queries} queries; images at {size}",
    )
    return 0
