"""`m2f streets`."""

import os
from contextlib import ExitStack

from m2f_jax.cli.arguments import Streets, parse_size
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.streets import write_streets


def run(command: Streets) -> int:
    """Writes the data set, or the rest of it."""
    console = terminal()
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
    terminal(errors=False).print(
        f"{command.folder}: {command.images} {command.split} images of {size[0]} x {size[1]}, "
        f"seed {command.seed}; {drawn} drawn now"
        + (f", {kept} were there already" if kept else ""),
    )
    return 0
