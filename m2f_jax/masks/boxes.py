"""Masks of single objects: their boxes, and eight pixels to a byte."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, UInt8

from m2f_jax.sizes import Size


def mask_box(mask: Bool[np.ndarray, "height width"]) -> tuple[int, int, int, int]:
    """Returns left, top, right and bottom of a mask (the last two exclusive); zeros if empty."""
    rows = np.flatnonzero(mask.any(axis=1))
    if not rows.size:
        return 0, 0, 0, 0
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return int(columns[0]), top, int(columns[-1]) + 1, bottom


def packed_box(packed: UInt8[np.ndarray, "height bytes"]) -> tuple[int, int, int, int]:
    """Returns the box of a packed mask, whose rows have eight pixels to a byte."""
    rows = np.flatnonzero(packed.any(axis=1))
    if not rows.size:
        return 0, 0, 0, 0
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(np.unpackbits(np.bitwise_or.reduce(packed[top:bottom], axis=0)))
    return int(columns[0]), top, int(columns[-1]) + 1, bottom


def unpack_masks(
    bits: Sequence[UInt8[np.ndarray, "height bytes"]], size: Size
) -> Bool[np.ndarray, "N height width"]:
    """Returns masks of `size` (height, width) from masks that have eight pixels to a byte.

    Only what lies within a mask's box is unpacked.
    """
    masks = np.zeros((len(bits), *size), bool)
    for mask, packed in zip(masks, bits, strict=True):
        left, top, right, bottom = packed_box(packed)
        mask[top:bottom, left:right] = unpack_window(packed, top, left, bottom, right)
    return masks


def unpack_window(
    packed: UInt8[np.ndarray, "height bytes"], top: int, left: int, bottom: int, right: int
) -> Bool[np.ndarray, "rows columns"]:
    """Returns a window of a packed mask; bottom and right are exclusive."""
    first, last = left // 8, -(-right // 8)
    pixels = np.unpackbits(packed[top:bottom, first:last], axis=-1)
    return pixels[:, left - 8 * first : right - 8 * first].view(bool)
