"""The corners of bilinear samples at normalised points, as PyTorch's `grid_sample` has them."""

import functools
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int


class Corner(NamedTuple):
    """One of the four pixels around each sampled point."""

    pixel: Int[Array, "*points"]  # row-major pixel index, clipped into the image
    inside: Float[Array, "*points"]  # 1 inside the image, 0 outside
    weight_x: Float[Array, "*points"]
    weight_y: Float[Array, "*points"]
    sign_x: int  # derivative of weight_x by x in pixels
    sign_y: int


Side = int | Int[np.ndarray, "*#points"]


def pixel_coordinates(
    points: Float[Array, "*points 2"], size: tuple[Side, Side]
) -> tuple[Float[Array, "*points"], Float[Array, "*points"]]:
    """Returns x and y in pixels, from the centre of the first; see `bilinear_corners`."""
    height, width = (np.asarray(side).astype(points.dtype) for side in size)
    return points[..., 0] * width - 0.5, points[..., 1] * height - 0.5


def bilinear_corners(
    points: Float[Array, "*points 2"], size: tuple[Side, Side]
) -> Iterator[Corner]:
    """Yields each point's four corners; a sample sums up pixel x inside x weight_x x weight_y.

    `points` are (x, y) with (0, 0) the image's top left corner and (1, 1) its bottom right one, so
    that pixel centres lie at (i + 0.5) / n (align_corners=False); outside the image is zero.
    `size` is the image's height and width, or each point's image's, int32.
    """
    height, width = size
    x, y = pixel_coordinates(points, size)
    left, top = jnp.floor(x), jnp.floor(y)
    right_weight, bottom_weight = x - left, y - top
    left, top = left.astype(jnp.int32), top.astype(jnp.int32)
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            yield Corner(
                pixel=jnp.clip(row, 0, height - 1) * width + jnp.clip(column, 0, width - 1),
                inside=inside.astype(points.dtype),
                weight_x=right_weight if dx else 1 - right_weight,
                weight_y=bottom_weight if dy else 1 - bottom_weight,
                sign_x=2 * dx - 1,
                sign_y=2 * dy - 1,
            )


def random_points(key: jax.Array, shape: tuple[int, ...]) -> Float[Array, "*points 2"]:
    """Draws points (x, y) in [0, 1] uniformly, at the centres of a grid of 65,536 x 65,536 cells.

    A point takes one random word of 32 bits, since drawing them is a good part of what sampled
    losses take on a CPU.

    Args:
        key: a random key.
        shape: how many, without the axis of x and y.
    """
    words = jax.random.bits(key, shape, jnp.uint32)
    halves = jnp.stack([words >> 16, words & 0xFFFF], axis=-1)
    return (halves.astype(jnp.float32) + 0.5) / 2**16


# Inlined wherever it is called, and traced once for all calls with arrays of the same shapes.
traced_once = functools.partial(jax.jit, inline=True)


@traced_once
def take_rows(
    rows: Float[Array, "N *C"] | Bool[Array, "N *C"], index: Int[Array, "*points"]
) -> Float[Array, "..."]:
    """Returns rows by index in float32; every index must be in bounds."""
    return (
        rows.at[index]
        .get(mode="promise_in_bounds")
        .astype(jnp.promote_types(rows.dtype, jnp.float32))
    )


def sample(
    image: Float[Array, "H W *C"] | Bool[Array, "H W *C"], points: Float[Array, "*points 2"] | None
) -> Float[Array, "..."]:
    """Samples one image bilinearly at `points` (x, y) in [0, 1]; outside it is zero.

    Returns [*points, *C], or without points the pixels themselves, row by row.
    """
    height, width, *channels = image.shape
    rows = jax.lax.collapse(image, 0, 2)
    if points is None:
        return rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    samples = []
    for corner in bilinear_corners(points, (height, width)):
        weight = corner_weight(corner)
        weight = weight.reshape(weight.shape + (1,) * len(channels))
        samples.append(take_rows(rows, corner.pixel) * weight)
    # In one loop, where a stack would be written first; and each before the sum so far, so that
    # those of one channel round as PyTorch's do on a CPU, and points have the same rank.
    return functools.reduce(lambda total, next_sample: next_sample + total, samples)


def corner_weight(corner: Corner) -> Float[Array, "*points"]:
    """Returns what a corner's pixel counts in its sample."""
    return corner.inside * corner.weight_x * corner.weight_y


def sample_map(
    image: Float[Array, "H W"] | Bool[Array, "H W"], points: Float[Array, "*points 2"] | None
) -> Float[Array, "*points"]:
    """Samples one channel. It can be differentiated by the image, in reverse and once.

    The derivative by the points counts as zero.
    """
    if points is None:
        return sample(image, None)
    return sample_map_at(image, points)


@jax.custom_vjp
def sample_map_at(
    image: Float[Array, "H W"] | Bool[Array, "H W"], points: Float[Array, "*points 2"]
) -> Float[Array, "*points"]:
    """Samples one channel at points."""
    return sample(image, points)


def sample_map_at_forward(image: jax.Array, points: jax.Array) -> Any:
    """Returns the samples and the residuals of `sample_map_at_backward`."""
    like = jnp.empty((*image.shape, 0), image.dtype)  # the image's size and dtype
    return sample_map_at(image, points), (points, like)


def sample_map_at_backward(residuals: Any, cotangent: Any) -> Any:
    """Returns the derivative, adding up each point's four corners at once.

    They are collected by cell, the square between four pixels' centres that the point lies in, and
    put into the image by four shifts: a quarter of the indices, and of the serial steps on a CPU.
    """
    points, like = residuals
    height, width, _ = like.shape
    corners = bilinear_corners(points, (height, width))
    shares = jnp.stack([cotangent * corner_weight(corner) for corner in corners], axis=-1)
    # Cell (0, 0) is up and left of the first pixel; points beyond have no share.
    x, y = pixel_coordinates(points, (height, width))
    column = jnp.clip(jnp.floor(x).astype(jnp.int32) + 1, 0, width)
    row = jnp.clip(jnp.floor(y).astype(jnp.int32) + 1, 0, height)
    cells = jnp.zeros(((height + 1) * (width + 1), 4), shares.dtype)
    cells = cells.at[row * (width + 1) + column].add(shares, mode="promise_in_bounds")
    cells = cells.reshape(height + 1, width + 1, 4)
    gradient = cells[1:, 1:, 0] + cells[1:, :-1, 1] + cells[:-1, 1:, 2] + cells[:-1, :-1, 3]
    return gradient.astype(like.dtype), None


sample_map_at.defvjp(sample_map_at_forward, sample_map_at_backward)
