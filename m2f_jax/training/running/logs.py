"""The log of a training run: one line of JSON per entry, and the same for TensorBoard."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m2f_jax.files import finite, naming, read_json_lines, replacing
from m2f_jax.training.running.tensorboard import TensorBoard

LOG_FILE = "log.jsonl"


class Log:
    """The log in a folder. A run that resumes drops the entries after the step it resumes from."""

    def __init__(self, folder: Path, step: int):
        """Opens the log to continue after `step`.

        Raises:
            ValueError: the log is damaged.
        """
        self.path = folder / LOG_FILE
        kept = [line_of(entry) for entry in read_log(self.path) if entry["step"] <= step]
        with replacing(self.path) as unfinished:
            unfinished.write_text("".join(kept))
        self.file = self.path.open("a", buffering=1)
        self.board = TensorBoard(folder / "tensorboard", step)

    def add(self, step: int, values: Mapping[str, float]):
        """Writes the numbers of a step; those that aren't finite become null."""
        with naming(self.path):
            self.file.write(line_of({"step": step, **values}))
        self.board.add_numbers(step, values)

    def add_picture(self, step: int, name: str, picture: np.ndarray):
        """Writes a picture, uint8 RGB [height, width, 3], to TensorBoard."""
        self.board.add_picture(step, name, picture)

    def close(self):
        """Closes both logs."""
        try:
            self.board.close()
        finally:
            with naming(self.path):
                self.file.close()


def line_of(entry: Mapping[str, Any]) -> str:
    """Returns an entry as a line of strict JSON."""
    return json.dumps(finite(entry), allow_nan=False) + "\n"


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the entries of a log, without the half that a killed run may have left at the end.

    Raises:
        ValueError: a line is damaged; the message says which.
    """
    entries = read_json_lines(path)
    for number, entry in enumerate(entries, 1):
        match entry:
            case {"step": int(), **values} if all(map(is_number, values.values())):
                continue
        raise ValueError(
            f"line {number} of {path} isn't an entry of a log, which has a step and numbers; "
            "remove the line"
        )
    return entries


def is_number(value: Any) -> bool:
    """Returns whether a value can be in a log: a number, or null where it wasn't finite."""
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
