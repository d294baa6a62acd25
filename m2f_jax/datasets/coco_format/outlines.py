"""Outlines of objects in COCO's format: polygons, or run-length encodings.

pycocotools crashes, or takes all memory, where coordinates aren't numbers or lie far away. So it
only draws outlines that were checked here.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from m2f_jax.datasets.coco_format.faults import EntryError
from m2f_jax.datasets.coco_format.values import shown
from m2f_jax.masks.rle import check_counts, counts_of
from m2f_jax.sizes import Size

Outline = list[Any] | bytes
"""Polygons, each a list x, y, x, y, ...; or the compressed counts of an encoding."""

FAR = 10  # how far outside of its image an outline may reach, in sizes of the image
LONGEST = 2**21  # pixels along an object's polygons; drawing takes 100 bytes for each
WANTED = (
    "segmentation is a list of polygons, each with at least three points as x, y, x, y, ..., or a "
    "run-length encoding"
)
NUMBERS = {int, float}
NOT_A_NUMBER = "coordinate that isn't a number"


def outline_of(segmentation: Any, size: Size) -> Outline:
    """Checks a segmentation, but for compressed run lengths, and returns it as an outline.

    Args:
        segmentation: from an annotation or a result.
        size: height and width of the image.

    Raises:
        EntryError: it is no outline of an object in the image.
    """
    if isinstance(segmentation, Mapping):
        try:
            return counts_of(segmentation, size)
        except ValueError as error:
            raise EntryError("broken run lengths", str(error)) from None
    if not isinstance(segmentation, list) or not segmentation:
        raise EntryError("no outline", f"it is {shown(segmentation)}, but {WANTED}")
    boxes = [box_of(polygon, size) for polygon in segmentation]
    sides = (max(right - left, bottom - top) for left, top, right, bottom in boxes)
    if sum(len(points) * side for points, side in zip(segmentation, sides, strict=True)) > LONGEST:
        length = sum(map(length_of, segmentation))  # exactly; the sum above is an upper bound
        if length > LONGEST:
            raise EntryError("endless outline", f"its polygons are {length:.0f} pixels long")
    if max(size) > 2 and all(min(box) >= 0 and max(box) <= 1 for box in boxes):
        raise EntryError(
            "coordinates of 0 to 1",
            "all coordinates lie between 0 and 1, so the object is smaller than a pixel; COCO's "
            "are in pixels: multiply them by the image's width and height",
        )
    return segmentation


def check_encoded(
    outlines: Sequence[Outline | None], sizes: Sequence[Size]
) -> tuple[list[Outline | None], dict[int, EntryError]]:
    """Checks the outlines that are compressed run lengths, all at once.

    Args:
        outlines: what `outline_of` returned; None where there is none.
        sizes: height and width of each one's image.

    Returns:
        The outlines, with counts as `check_counts` returns them, and the faults, by index.
    """
    encoded = {i: outline for i, outline in enumerate(outlines) if isinstance(outline, bytes)}
    counts, broken = check_counts([*encoded.values()], [sizes[i] for i in encoded])
    places, checked = [*encoded], list(outlines)
    for i, sound in zip(places, counts, strict=True):
        checked[i] = sound
    faults = {places[k]: EntryError("broken run lengths", text) for k, text in broken.items()}
    return checked, faults


def box_of(polygon: Any, size: Size) -> tuple[int | float, ...]:
    """Checks a polygon and returns its left, top, right and bottom.

    Raises:
        EntryError: it isn't one, or lies far outside of the image.
    """
    if not isinstance(polygon, list):
        hint = "; put the polygon into one more list" if type(polygon) in NUMBERS else ""
        raise EntryError("no outline", f"a polygon is {shown(polygon)}, but {WANTED}{hint}")
    if len(polygon) < 6 or len(polygon) % 2:
        raise EntryError(
            "incomplete polygon", f"a polygon has {len(polygon)} numbers, but {WANTED}"
        )
    if not set(map(type, polygon)) <= NUMBERS:
        for value in polygon:
            if isinstance(value, bool) or not isinstance(value, int | float | np.number):
                raise EntryError(NOT_A_NUMBER, f"a coordinate is {shown(value)}")
    xs, ys = polygon[::2], polygon[1::2]
    left, top, right, bottom = min(xs), min(ys), max(xs), max(ys)
    height, width = size
    inside = -FAR * width <= left and right <= (FAR + 1) * width
    inside = inside and -FAR * height <= top and bottom <= (FAR + 1) * height
    total = sum(polygon) if inside else 0.0
    if not inside or total != total:  # NaN escapes comparisons, but not a sum
        odd = [x for x in polygon if not abs(x) < np.inf]
        if odd:
            raise EntryError(NOT_A_NUMBER, f"a coordinate is {odd[0]}")
        x = f"x = {shown(left)} to {shown(right)}"
        raise EntryError(
            "coordinate far outside",
            f"it reaches from {x} and y = {shown(top)} to {shown(bottom)}, far out of the image of "
            f"{width} x {height} pixels (width x height)",
        )
    return left, top, right, bottom


def length_of(polygon: list[Any]) -> float:
    """Returns the length of a checked polygon, in steps from pixel to pixel."""
    points = np.array(polygon, float).reshape(-1, 2)
    return float(np.abs(points - np.roll(points, 1, axis=0)).max(axis=1).sum())


def outline_counts(outline: Outline, size: Size) -> bytes:
    """Returns a checked outline's mask as compressed counts."""
    if isinstance(outline, bytes):
        return outline
    encoded: Any = coco_mask.frPyObjects(outline, *size)
    merged: Any = encoded[0] if len(encoded) == 1 else coco_mask.merge(encoded)
    return merged["counts"]


def encloses_nothing(outline: Outline) -> bool:
    """Returns whether each of an outline's polygons is a horizontal or vertical line."""
    if isinstance(outline, bytes):
        return False
    return all(
        any(values.count(values[0]) == len(values) for values in (polygon[::2], polygon[1::2]))
        for polygon in outline
    )
