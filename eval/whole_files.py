"""Writing of files that are complete or not there at all, and .npz files of metrics."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path to write to; its file replaces `path` if the block ends without an error."""
    path = Path(path)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def save_arrays(path: str | os.PathLike, format: str, **arrays: Any):
    """Writes one .npz file.

    Args:
        path: of the file.
        format: what it holds, "<kind> <version>".
        arrays: what `np.savez_compressed` takes.
    """
    with replacing(path) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, format=format, **arrays)


@contextlib.contextmanager
def saved_arrays(path: str | os.PathLike, format: str) -> Iterator[dict[str, np.ndarray]]:
    """Yields what `save_arrays` wrote; any error in the block is raised as an error of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, or of another kind or version.
    """
    with Path(path).open("rb") as file:
        try:
            arrays = dict(np.load(file))
            if arrays["format"] != format:
                raise ValueError(f"its format is {arrays['format']}")
            yield arrays
        except Exception as error:
            kind = format.split()[0]
            raise ValueError(f"{path} isn't a whole file of {kind}: {error}") from error
