"""Boundaries of masks, for Boundary IoU as its authors compute it.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021, and
their package boundary_iou_api.
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool

from m2f_jax.masks.boxes import mask_box
from m2f_jax.masks.rle import decode_rle, encode_rle

# How wide a boundary is, as a part of the image's diagonal: the authors' defaults.
DILATION_RATIO = 0.02
CITYSCAPES_DILATION_RATIO = 0.005


def boundary(
    mask: Bool[np.ndarray, "height width"], dilation_ratio: float = DILATION_RATIO
) -> Bool[np.ndarray, "height width"]:
    """Returns the pixels of a mask that are near its edge, or near that of the image.

    They vanish when the mask is eroded with a square of 3 x 3 pixels once for each pixel in this
    part of the image's diagonal, and at least once: the authors' `mask_to_boundary`.
    """
    from scipy.ndimage import minimum_filter1d  # 0.2 s, which other scores needn't wait for

    rim = np.zeros_like(mask)
    if not mask.any():
        return rim
    height, width = mask.shape
    times = max(round(dilation_ratio * math.sqrt(height**2 + width**2)), 1)
    left, top, right, bottom = mask_box(mask)
    box = slice(top, bottom), slice(left, right)
    inner = mask[box].astype(np.uint8)
    for axis in (0, 1):
        inner = minimum_filter1d(inner, 2 * times + 1, axis, mode="constant", cval=0)
    rim[box] = mask[box] & (inner == 0)
    return rim


def boundary_rle(rle: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the boundary of a mask given as compressed run lengths, in the same form."""
    counts, (height, width) = rle["counts"], rle["size"]
    counts = counts.encode() if isinstance(counts, str) else counts
    return encode_rle(boundary(decode_rle(counts, (height, width))))
