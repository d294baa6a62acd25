"""The log of a training run: one line of JSON per entry, and the same for TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

from m2f_jax.files import replacing

LOG_FILE = "log.jsonl"


class Log:
    """The log in a folder. A run that resumes drops the entries after the step it resumes from."""

    def __init__(self, folder: Path, step: int):
        """Opens the log to continue after `step`."""
        path = folder / LOG_FILE
        kept = [line for line in read_lines(path) if json.loads(line)["step"] <= step]
        with replacing(path) as unfinished:
            unfinished.write_text("".join(f"{line}\n" for line in kept))
        self.file = path.open("a")
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float]):
        """Writes the numbers of a step."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def add_picture(self, step: int, name: str, picture: np.ndarray):
        """Writes a picture, uint8 RGB [height, width, 3], to TensorBoard."""
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def close(self):
        """Flushes and closes both logs."""
        self.file.close()
        self.writer.close()


def read_lines(path: Path) -> list[str]:
    """Returns the complete lines of a log; a killed run may have left half a line at the end."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [line for line in lines[:-1] if line]
