"""Resizing that agrees with PyTorch's `interpolate(align_corners=False, antialias=False)`.

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
    """Returns which two of `source` samples each of `target` samples along an axis lies between."""
    position = (np.arange(target) + 0.5) * (source / target) - 0.5
    position = np.clip(position, 0, source - 1)
    first = np.floor(position).astype(np.int32)
    return Taps(first, np.minimum(first + 1, source - 1).astype(np.int32), position - first)


def bilinear_matrix(source: int, target: int) -> Float[np.ndarray, "{target} {source}"]:
    """Returns the resizing of an axis as a dense matrix, in float64."""
    taps = bilinear_taps(source, target)
    matrix = np.zeros((target, source))
    for index, weight in ((taps.first, 1 - taps.weight), (taps.second, taps.weight)):
        matrix[np.arange(target), index] += weight
    return matrix


def nearest_taps(source: int, target: int) -> Int[np.ndarray, "target"]:
    """Returns which of `source` samples PyTorch's `interpolate(mode="nearest")` takes."""
    scale = np.float32(source) / np.float32(target)
    return np.floor(np.arange(target, dtype=np.float32) * scale).astype(np.int32)


class Band(NamedTuple):
    """A matrix in float64 whose rows have a few values side by side, from column `first` on."""

    first: Int[np.ndarray, "rows"]
    weights: Float[np.ndarray, "rows taps"]

    def rows(self, index: slice | Int[np.ndarray, "n"]) -> "Band":
        """Returns some of the rows."""
        return Band(self.first[index], self.weights[index])


def bilinear_band(source: int, target: int) -> Band:
    """Returns the matrix [target, source] that resizes an axis."""
    taps = bilinear_taps(source, target)
    weights = np.stack([1 - taps.weight, taps.weight], axis=1)
    at_the_end = taps.second == taps.first
    weights[at_the_end] = np.stack(
        [weights[at_the_end].sum(axis=1), 0 * taps.weight[at_the_end]], 1
    )
    return Band(taps.first, weights)


def resize_rows(band: Band, target: int) -> Band:
    """Resizes the rows of a matrix: the product of a `bilinear_band` and the matrix."""
    taps = bilinear_taps(len(band.first), target)
    first, second = band.rows(taps.first), band.rows(taps.second)
    shift = (second.first - first.first)[:, None]
    more = int(shift.max())
    column = np.arange(band.weights.shape[1] + more)
    weights = np.pad(first.weights, ((0, 0), (0, more))) * (1 - taps.weight[:, None])
    place = np.pad(second.weights, ((0, 0), (more, more)))
    weights += np.take_along_axis(place, column - shift + more, axis=1) * taps.weight[:, None]
    return Band(first.first, weights)


def enlarge_bilinear(
    image: Float[Array, "height width"], size: tuple[int, int]
) -> Float[Array, "{size[0]} {size[1]}"]:
    """Returns what `resize_bilinear` gives for a larger size, as two matrix products.

    Its derivatives are matrix products too; those of `resize_bilinear` are scattered sums, which
    are slow on a CPU. Every number has to be finite.
    """
    rows, columns = (
        bilinear_matrix(*sides).astype(image.dtype) for sides in zip(image.shape, size, strict=True)
    )
    return jnp.einsum("yh,hw,xw->yx", rows, image, columns, precision="highest")


def resize_bilinear(
    x: Float[Array, "B H W C"], size: tuple[int, int]
) -> Float[Array, "B {size[0]} {size[1]} C"]:
    """Resizes maps to `size` (height, width), in their own dtype."""
    for axis in (1, 2):
        source, target = x.shape[axis], size[axis - 1]
        if source == target:
            continue
        taps = bilinear_taps(source, target)
        weight = np.expand_dims(taps.weight, (0, 3 - axis, 3)).astype(x.dtype)
        first, second = jnp.take(x, taps.first, axis=axis), jnp.take(x, taps.second, axis=axis)
        x = first + (second - first) * weight
    return x
