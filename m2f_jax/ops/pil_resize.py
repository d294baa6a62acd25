"""Bilinear resizing of 8-bit images that equals PIL's, bit for bit, on any device.

PIL's filter (src/libImaging/Resample.c) smooths when it shrinks. It works on the width, then on the
height, in whole numbers: coefficients are rounded to 22 bits after the point, and each pass rounds
its result to 8 bits. Sums of such products fit into 32 bits and are exact in any order.
(From version 13 on, PIL takes the height first where it shrinks by more than twice as many pixels
as the width; `m2f_jax.preprocess.resize` keeps to the old order, which published models know.)
"""

import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

FRACTION_BITS = 22


class FilterTaps(NamedTuple):
    """The source samples that make each target sample: neighbours from `first` on."""

    first: Int[np.ndarray, "target"]
    coefficients: Int[np.ndarray, "target taps"]  # in units of 2**-22, zero where not needed


def filter_taps(source: int, target: int) -> FilterTaps:
    """PIL's bilinear filter along an axis: a triangle, as wide as two samples of the coarser grid.

    The last taps may lie beyond the source; their coefficients are zero.
    """
    scale = source / target
    width = max(scale, 1.0)  # half of the triangle's base
    centre = (np.arange(target) + 0.5) * scale
    first = np.maximum((centre - width + 0.5).astype(int), 0)
    end = np.minimum((centre + width + 0.5).astype(int), source)
    offsets = np.arange(math.ceil(width) * 2 + 1)
    position = first[:, None] + offsets
    weight = 1 - np.abs((position - centre[:, None] + 0.5) * (1 / width))
    weight = np.where(position < end[:, None], np.maximum(weight, 0), 0)
    weight /= np.cumsum(weight, axis=1)[:, -1:]  # from left to right, as PIL adds them up
    coefficients = np.floor(weight * 2**FRACTION_BITS + 0.5)
    return FilterTaps(first.astype(np.int32), coefficients.astype(np.int32))


def resize_as_pil(
    image: UInt8[Array, "H W C"], size: tuple[int, int]
) -> UInt8[Array, "{size[0]} {size[1]} C"]:
    """The image resized to `size` (height, width); equals `m2f_jax.preprocess.resize`."""
    for axis in (1, 0):  # the order matters, since each pass rounds
        if image.shape[axis] != size[axis]:
            image = _resize_axis(image, size[axis], axis)
    return image


def _resize_axis(image: UInt8[Array, "H W C"], target: int, axis: int) -> UInt8[Array, "_ _ C"]:
    """One pass; the sum can't exceed 255 after rounding, for the coefficients' sum is about one."""
    source = image.shape[axis]
    first, coefficients = filter_taps(source, target)
    half = np.int32(2 ** (FRACTION_BITS - 1))
    total = half
    for tap in range(coefficients.shape[1]):
        sample = jnp.take(image, np.minimum(first + tap, source - 1), axis=axis, mode="clip")
        coefficient = np.expand_dims(coefficients[:, tap], (1 - axis, 2))
        total = total + sample.astype(jnp.int32) * coefficient
    return (total >> FRACTION_BITS).astype(jnp.uint8)
