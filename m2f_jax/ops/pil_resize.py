"""Bilinear resizing of 8-bit images that equals PIL's, bit for bit, on any device.

PIL's filter (src/libImaging/Resample.c) smooths when it shrinks. It works on the width, then on the
height, in whole numbers: coefficients are rounded to 22 bits after the point, and each pass rounds
its result to 8 bits. Sums of such products fit into 32 bits and are exact in any order.
(From version 13 on, PIL takes the height first where it shrinks by more than twice as many pixels
as the width; `m2f_jax.inference.preprocess.resize` keeps to the old order, which published models
know.)
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt8

FRACTION_BITS = 22
UNROLLED = 64  # taps; more are added up in a loop, which compiles faster

AnyArray = Array | np.ndarray


class FilterTaps(NamedTuple):
    """The source samples that make each target sample: neighbours from `first` on."""

    first: Int[AnyArray, "target"]
    coefficients: Int[AnyArray, "target taps"]  # in units of 2**-22, zero where not needed


def filter_taps(source: int, target: int, padded: int) -> FilterTaps:
    """Returns PIL's bilinear filter of an axis: a triangle, two samples of the coarser grid wide.

    The last taps may lie beyond the source; their coefficients are zero. So are all coefficients of
    samples from `target` up to `padded`, which are padding.
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
    needed = np.flatnonzero(coefficients.any(axis=0))[-1] + 1
    below = (0, padded - target)
    return FilterTaps(
        np.pad(first.astype(np.int32), below),
        np.pad(coefficients[:, :needed].astype(np.int32), (below, (0, 0))),
    )


def resize_as_pil(
    image: UInt8[Array, "H W C"], rows: FilterTaps, columns: FilterTaps
) -> UInt8[Array, "_ _ C"]:
    """Resizes an image and pads it with zeros, as `inference.preprocess` does with PIL.

    Args:
        image: may be larger than the source that the taps are made for, at its bottom and right.
        rows: along the height.
        columns: along the width.
    """
    return _resize_axis(_resize_axis(image, columns, 1), rows, 0)  # in order, since each rounds


def _resize_axis(
    image: UInt8[Array, "H W C"], taps: FilterTaps, axis: int
) -> UInt8[Array, "_ _ C"]:
    """Resizes one axis; a sum can't round to more than 255, as coefficients add up to about one."""
    coefficients = jnp.asarray(taps.coefficients)
    target, count = coefficients.shape

    def add(tap: int | Int[Array, ""], total: Int[Array, "_ _ C"]) -> Int[Array, "_ _ C"]:
        sample = jnp.take(image, taps.first + tap, axis=axis, mode="clip")
        coefficient = jnp.expand_dims(coefficients[:, tap], (1 - axis, 2))
        return total + sample.astype(jnp.int32) * coefficient

    shape = (target, *image.shape[1:]) if axis == 0 else (image.shape[0], target, image.shape[2])
    total = jnp.full(shape, 2 ** (FRACTION_BITS - 1), jnp.int32)  # one half
    if count > UNROLLED:
        total = jax.lax.fori_loop(0, count, add, total)
    else:
        for tap in range(count):
            total = add(tap, total)
    return (total >> FRACTION_BITS).astype(jnp.uint8)
