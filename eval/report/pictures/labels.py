"""Where there is room for the text beside an object."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from m2f_jax.masks.boxes import mask_box

from .picture import LONGEST

FONT, LETTER = 15.0, 8.6  # pixels where a side is `LONGEST`: height of text, width of a letter


def placed(
    texts: Sequence[str],
    mask: Bool[np.ndarray, "rows columns"],
    size: tuple[int, int],
    taken: list[tuple[float, float, float, float]],
) -> tuple[str, int, int]:
    """Returns the first text that has room by a mask, and its place; an empty one if none has."""
    left, top, right, bottom = mask_box(mask)
    if not right:
        return "", 0, 0
    unit = max(size) / LONGEST
    font, low = FONT * unit, 3 * unit
    center = (left + right) / 2, (top + bottom) / 2
    for text in filter(None, texts):
        width = len(text) * LETTER * unit
        for x, y in (
            (center[0] - width / 2, center[1] + font / 3),
            (left, top - low),
            (left, bottom + font - low),
        ):
            x = float(min(max(x, 1), size[0] - width - 1))
            box = x, y - font + low, x + width, y + low
            inside = box[0] >= 0 and box[1] >= 0 and box[3] <= size[1]
            if inside and not any(overlap(box, other) for other in taken):
                taken.append(box)
                return text, int(x), int(y)
    return "", 0, 0


def overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    """Whether two boxes (left, top, right, bottom) share a point."""
    across = one[0] < other[2] and other[0] < one[2]
    return across and one[1] < other[3] and other[1] < one[3]
