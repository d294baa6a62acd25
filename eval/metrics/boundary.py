"""Boundaries of masks, for Boundary IoU as its authors compute it.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, and
their package boundary_iou_api.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Shaped

from m2f_jax.masks.boxes import mask_box
from m2f_jax.masks.rle import decode_rle, encode_rle

# How wide a boundary is, as a part of the image's diagonal: the authors' defaults.
DILATION_RATIO = 0.02
CITYSCAPES_DILATION_RATIO = 0.005


def reach_of(shape: tuple[int, ...], dilation_ratio: float) -> int:
    """Returns how many pixels boundaries reach inwards in an image of a shape; at least one."""
    height, width = shape
    return max(round(dilation_ratio * math.sqrt(height**2 + width**2)), 1)


def enclosed(
    values: Shaped[np.ndarray, "height width"], reach: int
) -> Bool[np.ndarray, "height width"]:
    """Returns the pixels around which a square has one value and lies within the image.

    The square reaches so far from the pixel to each side. This is what is left of each value's mask
    when it is eroded with a square of 3 x 3 pixels so many times, as `mask_to_boundary` of the
    authors does; what isn't left is the boundary.
    """
    height, width = values.shape
    found = np.zeros((height, width), bool)
    if min(height, width) <= 2 * reach:
        return found
    changes = np.zeros((height, width), np.int32)  # along each row, up to each pixel
    np.cumsum(values[:, 1:] != values[:, :-1], axis=1, out=changes[:, 1:])
    is_whole = changes[:, 2 * reach :] == changes[:, : width - 2 * reach]  # the row of a square
    middle = values[:, reach : width - reach]
    breaks = np.zeros(middle.shape, np.int32)  # down each column, up to each pixel
    is_break = (middle[1:] != middle[:-1]) | ~is_whole[1:]
    np.cumsum(is_break, axis=0, out=breaks[1:])
    top = slice(0, height - 2 * reach)
    found[reach : height - reach, reach : width - reach] = is_whole[top] & (
        breaks[2 * reach :] == breaks[top]
    )
    return found


def boundary(
    mask: Bool[np.ndarray, "height width"], dilation_ratio: float = DILATION_RATIO
) -> Bool[np.ndarray, "height width"]:
    """Returns the pixels of a mask that are near its edge, or near that of the image."""
    rim = np.zeros_like(mask)
    if not mask.any():
        return rim
    left, top, right, bottom = mask_box(mask)
    box = slice(top, bottom), slice(left, right)
    rim[box] = mask[box] & ~enclosed(mask[box], reach_of(mask.shape, dilation_ratio))
    return rim


def boundary_rle(rle: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the boundary of a mask given as compressed run lengths, in the same form."""
    counts, (height, width) = rle["counts"], rle["size"]
    counts = counts.encode() if isinstance(counts, str) else counts
    return encode_rle(boundary(decode_rle(counts, (height, width))))
