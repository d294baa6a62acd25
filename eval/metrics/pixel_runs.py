"""Maps of one image as runs of pixels in which none of them changes, so that counting is quick."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer


def runs_of(
    *maps: Integer[np.ndarray, "height width"],
) -> tuple[Int64[np.ndarray, "runs"], list[Integer[np.ndarray, "runs"]]]:
    """Returns the pixels of each run, row after row, and each map's values in the runs."""
    if not maps[0].size:
        return np.zeros(0, np.int64), [flat.ravel() for flat in maps]
    changes = np.zeros(maps[0].size, bool)
    changes[0] = True
    for flat in (values.ravel() for values in maps):
        changes[1:] |= flat[1:] != flat[:-1]
    starts = np.flatnonzero(changes)
    lengths = np.diff(starts, append=len(changes))
    return lengths, [values.ravel()[starts] for values in maps]


def counts(
    cells: Integer[np.ndarray, "runs"], lengths: Int64[np.ndarray, "runs"], shape: Sequence[int]
) -> Int64[np.ndarray, "..."]:
    """Returns the pixels of every cell of a table; cells are numbered row after row."""
    # Whole numbers below 2**53, of which float64 keeps every one.
    pixels = np.bincount(cells, weights=lengths, minlength=int(np.prod(shape)))
    return pixels.astype(np.int64).reshape(shape)
