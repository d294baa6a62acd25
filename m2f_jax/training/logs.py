"""A training's record: a line of JSON for each entry, and the same for TensorBoard."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from tensorboardX import SummaryWriter

LOG_FILE = "log.jsonl"


class Log:
    """Appends to a folder's record; what lies behind the step that a training goes on from goes."""

    def __init__(self, folder: Path, step: int):
        """A record that continues after `step`."""
        path = folder / LOG_FILE
        kept = [line for line in read_lines(path) if json.loads(line)["step"] <= step]
        temporary = path.with_suffix(".tmp")
        temporary.write_text("".join(f"{line}\n" for line in kept))
        os.replace(temporary, path)
        self.file = path.open("a")
        self.writer = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def add(self, step: int, values: Mapping[str, float]):
        """Numbers at a step."""
        self.file.write(json.dumps({"step": step, **values}) + "\n")
        self.file.flush()
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)

    def add_picture(self, step: int, name: str, picture: np.ndarray):
        """A picture, uint8 RGB [height, width, 3]."""
        self.writer.add_image(name, picture, step, dataformats="HWC")

    def close(self):
        """Writes what is still in memory."""
        self.file.close()
        self.writer.close()


def read_lines(path: Path) -> list[str]:
    """The complete lines of a record; a killed training may have broken off the last one."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")
    return [line for line in lines[:-1] if line]
