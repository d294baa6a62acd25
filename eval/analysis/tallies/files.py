"""The file of a tally."""

import os
from typing import Any

import numpy as np

from ...metrics.array_files import save_arrays, saved_arrays
from .instances import InstanceTally
from .pixels import PixelTally
from .segments import SegmentTally
from .tally import Tally

KINDS = {kind.kind: kind for kind in (InstanceTally, SegmentTally, PixelTally)}
FORMAT = "Tally 1"


def save_tally(path: str | os.PathLike, tally: Tally):
    """Writes one .npz file, which is complete or not there at all."""
    save_arrays(
        path,
        FORMAT,
        kind=tally.kind,
        images=np.array(tally.images, str),
        class_names=np.array(tally.class_names, str),
        **tally.to_arrays(),
    )


def load_tally(path: str | os.PathLike) -> Tally:
    """Reads what `save_tally` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, or of another kind or version.
    """
    with saved_arrays(path, FORMAT) as arrays:
        del arrays["format"]
        kind = KINDS[str(arrays.pop("kind"))]
        names = {key: tuple(arrays.pop(key).tolist()) for key in ("images", "class_names")}
        values: dict[str, Any] = {
            key: value.item() if value.ndim == 0 else value for key, value in arrays.items()
        }
        return kind(**names, **values)
