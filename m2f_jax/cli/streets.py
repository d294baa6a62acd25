"""`m2f streets`."""

import os
import re
from contextlib import ExitStack

from rich.console import Console

from m2f_jax.cli.arguments import Streets
from m2f_jax.cli.progress import ImageProgress
from m2f_jax.streets import write_streets


def run(command: Streets) -> int:
    """Writes the data set, or the rest of it."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    size = parse_size(command.size)
    bars: list[ImageProgress] = []
    with ExitStack() as stack:

        def show(done: int, total: int):
            if done:
                bars[0].advance()
            elif total:
                bars.append(stack.enter_context(ImageProgress("drawing", total, console)))
                bars[0].bar.update(bars[0].row, rate="")

        drawn = write_streets(
            command.folder,
            command.images,
            size,
            command.seed,
            command.split,
            show,
            workers=(os.cpu_count() or 1) if command.workers is None else command.workers,
        )
    kept = command.images - drawn
    Console(highlight=False).print(
        f"{command.folder}: {command.images} {command.split} images of {size[0]} x {size[1]}, "
        f"seed {command.seed}; {drawn} drawn now"
        + (f", {kept} were there already" if kept else ""),
        soft_wrap=True,
    )
    return 0


def parse_size(text: str) -> tuple[int, int]:
    """Height and width from "512x1024".

    Raises:
        ValueError: it is something else.
    """
    match = re.fullmatch(r"\s*([0-9]+)\s*x\s*([0-9]+)\s*", text, re.IGNORECASE)
    if match is None:
        raise ValueError(f"--size is height x width in pixels, such as 512x1024; got {text!r}")
    height, width = match.groups()
    return int(height), int(width)
