"""The boxes and connected parts of objects in a map, found by its runs of equal pixels in rows.

SciPy's `ndimage` gives the same, but takes longer to import than a picture takes to draw.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int

Box = tuple[slice, slice]  # rows and columns


class Runs(NamedTuple):
    """The pixels of a map in order, as runs that each lie in one row and have one owner."""

    owners: Int[np.ndarray, "runs"]
    rows: Int[np.ndarray, "runs"]
    starts: Int[np.ndarray, "runs"]  # indices of pixels, as the map is raveled
    ends: Int[np.ndarray, "runs"]


def runs_of(owners: Int[np.ndarray, "height width"]) -> Runs:
    """Returns the runs of a map."""
    first = np.ones(owners.shape, bool)
    np.not_equal(owners[:, 1:], owners[:, :-1], out=first[:, 1:])
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], owners.size)
    return Runs(owners.ravel()[starts], starts // owners.shape[1], starts, ends)


def boxes_of(owners: Int[np.ndarray, "height width"], count: int) -> list[Box | None]:
    """Returns the box around each of the objects 0 to `count` - 1; None where it isn't seen."""
    height, width = owners.shape
    runs = runs_of(owners)
    runs = Runs(*(x[(runs.owners >= 0) & (runs.owners < count)] for x in runs))
    low = np.tile([height, width], (count, 1))
    high = np.zeros((count, 2), int)
    line = runs.rows * width
    np.minimum.at(low, runs.owners, np.stack([runs.rows, runs.starts - line], axis=1))
    np.maximum.at(high, runs.owners, np.stack([runs.rows + 1, runs.ends - line], axis=1))
    return [
        (slice(top, bottom), slice(left, right)) if bottom else None
        for (top, left), (bottom, right) in zip(low.tolist(), high.tolist(), strict=True)
    ]


def connected_parts(
    owners: Int[np.ndarray, "height width"],
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, "parts"]]:
    """Splits a map into parts of one owner whose pixels share sides.

    Returns:
        The index of the part at every pixel, in order of the first pixels; and each part's owner.
    """
    width = owners.shape[1]
    runs = runs_of(owners)
    upper = np.flatnonzero(runs.rows < runs.rows[-1])
    # The runs below each run are neighbours, since every pixel is in a run.
    first = np.searchsorted(runs.starts, runs.starts[upper] + width, side="right") - 1
    last = np.searchsorted(runs.starts, runs.ends[upper] + width)
    counts = last - first
    upper = np.repeat(upper, counts)
    lower = np.arange(len(upper)) + np.repeat(last - counts.cumsum(), counts)
    equal = runs.owners[upper] == runs.owners[lower]
    roots = first_connected(len(runs.rows), upper[equal], lower[equal])
    firsts, part = np.unique(roots, return_inverse=True)
    parts = np.repeat(part, runs.ends - runs.starts).reshape(owners.shape)
    return parts, runs.owners[firsts]


def first_connected(
    count: int, one: Int[np.ndarray, "pairs"], other: Int[np.ndarray, "pairs"]
) -> Int[np.ndarray, "count"]:
    """Returns for each of 0 to `count` - 1 the least number that pairs connect it with."""
    first = np.arange(count)
    while True:
        before = first.copy()
        lower = np.minimum(first[one], first[other])
        np.minimum.at(first, before[one], lower)
        np.minimum.at(first, before[other], lower)
        while ((further := first[first]) != first).any():
            first = further
        if (first == before).all():
            return first
