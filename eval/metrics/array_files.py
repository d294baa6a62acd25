"""The arrays that metrics keep in files, which are complete or not there at all."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from m2f_jax.files import replacing


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
    """Opens what `save_arrays` wrote; an error within the `with` block means a damaged file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, or of another kind or version.
    """
    with Path(path).open("rb") as file:
        try:
            arrays = dict(np.load(file))
            if (found := str(arrays.get("format", "unknown"))) != format:
                raise ValueError(f"its format is {found}, and this version reads {format}")
            yield arrays
        except Exception as error:
            kind = format.rpartition(" ")[0]
            raise ValueError(f"{path} isn't a whole file of {kind}: {error}") from error
