"""The corners of bilinear samples at normalised points, as PyTorch's `grid_sample` has them."""

import functools
from collections.abc import Iterator
from typing import NamedTuple

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


def bilinear_corners(
    points: Float[Array, "*points 2"], size: tuple[Side, Side]
) -> Iterator[Corner]:
    """Yields each point's four corners; a sample sums up pixel x inside x weight_x x weight_y.

    `points` are (x, y) with (0, 0) the image's top left corner and (1, 1) its bottom right one, so
    that pixel centres lie at (i + 0.5) / n (align_corners=False); outside the image is zero.
    `size` is the image's height and width, or each point's image's, int32.
    """
    height, width = size
    x = points[..., 0] * np.asarray(width).astype(points.dtype) - 0.5
    y = points[..., 1] * np.asarray(height).astype(points.dtype) - 0.5
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


# Inlined wherever it is called, and traced once for all calls with arrays of the same shapes.
traced_once = functools.partial(jax.jit, inline=True)


@traced_once
def take_rows(
    rows: Float[Array, "N C"] | Bool[Array, "N C"], index: Int[Array, "*points"]
) -> Float[Array, "*points C"]:
    """Returns rows by index in float32; every index must be in bounds."""
    return (
        rows.at[index]
        .get(mode="promise_in_bounds")
        .astype(jnp.promote_types(rows.dtype, jnp.float32))
    )


def sample(
    image: Float[Array, "H W C"] | Bool[Array, "H W C"], points: Float[Array, "*points 2"] | None
) -> Float[Array, "*points C"]:
    """Samples one image bilinearly at `points` (x, y) in [0, 1]; outside it is zero.

    Without points, returns the pixels themselves, row by row.
    """
    height, width, _ = image.shape
    rows = jax.lax.collapse(image, 0, 2)
    if points is None:
        return rows.astype(jnp.promote_types(rows.dtype, jnp.float32))
    corners = bilinear_corners(points, (height, width))
    weighted = [
        take_rows(rows, corner.pixel)
        * (corner.inside * corner.weight_x * corner.weight_y)[..., None]
        for corner in corners
    ]
    return jnp.stack(weighted).sum(axis=0)


def sample_map(
    image: Float[Array, "H W"] | Bool[Array, "H W"], points: Float[Array, "*points 2"] | None
) -> Float[Array, "*points"]:
    """Samples one channel in one gather, whose derivative is one scatter instead of four."""
    if points is None:
        return sample(image[..., None], None)[..., 0]
    height, width = image.shape
    corners = list(bilinear_corners(points, (height, width)))
    pixel = jnp.stack([corner.pixel for corner in corners])
    weight = jnp.stack([corner.inside * corner.weight_x * corner.weight_y for corner in corners])
    return (take_rows(image.reshape(-1, 1), pixel)[..., 0] * weight).sum(axis=0)
