"""Bilinear resizing that agrees with PyTorch's `interpolate(align_corners=False, antialias=False)`.

`jax.image.resize` smooths when it shrinks, so it computes something else.
"""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int


class Taps(NamedTuple):
    """The two source indices of each target index, and the weight of the second one."""

    first: Int[np.ndarray, "target"]
    second: Int[np.ndarray, "target"]
    weight: Float[np.ndarray, "target"]


def bilinear_taps(source: int, target: int) -> Taps:
    """How each of `target` samples along an axis lies between two of `source` samples."""
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    position = np.clip(position, 0, source - 1)
    first = np.floor(position).astype(np.int32)
    return Taps(first, np.minimum(first + 1, source - 1).astype(np.int32), position - first)


def bilinear_matrix(source: int, target: int) -> Float[np.ndarray, "target source"]:
    """The resizing of an axis as a matrix, in float64."""
    taps = bilinear_taps(source, target)
    matrix = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(matrix, (rows, taps.first), 1 - taps.weight)
    np.add.at(matrix, (rows, taps.second), taps.weight)
    return matrix


def resize_rows(
    x: Float[np.ndarray, "source columns"], target: int
) -> Float[np.ndarray, "target columns"]:
    """The rows of a matrix resized: `bilinear_matrix(len(x), target) @ x` without its zeros."""
    taps = bilinear_taps(len(x), target)
    weight = taps.weight[:, None]
    return x[taps.first] * (1 - weight) + x[taps.second] * weight


def resize_bilinear(
    x: Float[Array, "B H W C"], size: tuple[int, int]
) -> Float[Array, "B {size[0]} {size[1]} C"]:
    """Maps resized to `size` (height, width), in their own dtype."""
    for axis in (1, 2):
        source, target = x.shape[axis], size[axis - 1]
        if source == target:
            continue
        taps = bilinear_taps(source, target)
        weight = np.expand_dims(taps.weight, (0, 3 - axis, 3)).astype(x.dtype)
        first, second = jnp.take(x, taps.first, axis=axis), jnp.take(x, taps.second, axis=axis)
        x = first + (second - first) * weight
    return x
