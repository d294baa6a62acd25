"""Multi-scale deformable attention (Zhu et al., ICLR 2021, Eq. 3), the operator alone.

For every query, head, level and point it samples that head's values bilinearly at a given location
and sums the samples with given weights. One definition, evaluated in the order that suits the
platform: on a GPU all heads and points at once, which XLA makes one fused kernel of; on a TPU head
by head and point by point, which keeps temporaries small; on a CPU from tables of all corners, and
for the gradient head by head, which keeps the values of a head in the cache.

Axes: B images, S values of all levels, Q queries, H heads, D head width, L levels, P points.
"""

import functools
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from types import EllipsisType

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from m2f_jax.ops.sampling import Corner, bilinear_corners, take_rows, traced_once

Size = tuple[int, int]
Sizes = tuple[Size, ...]
Index = tuple[EllipsisType, int, slice]


def ms_deform_attn(
    values: Float[Array, "B S H D"],
    sizes: Sequence[tuple[int, int]],
    locations: Float[Array, "B Q H L P 2"],
    weights: Float[Array, "B Q H L P"],
) -> Float[Array, "B Q H*D"]:
    """Computes weighted sums of bilinear samples, as the authors' `ms_deform_attn_core_pytorch`.

    Args:
        values: the levels' maps, each flattened row by row, one after another.
        sizes: (height, width) of each level; static.
        locations: (x, y) in [0, 1] of the level's map, pixel centres at (i + 0.5) / n; samples
            outside are zero. Keep them in float32: in bfloat16 they are off by up to half a pixel.
        weights: usually a softmax over the levels and points of a head.

    Returns:
        The heads side by side, in the dtype of `values`; sums are taken in float32 at least.

    Raises:
        ValueError: the sizes don't add up to S or aren't one per level.
    """
    sizes = tuple((int(height), int(width)) for height, width in sizes)
    total = sum(height * width for height, width in sizes)
    if values.shape[1] != total or locations.shape[3] != len(sizes):
        raise ValueError(
            f"ms_deform_attn: sizes {sizes} are {len(sizes)} levels of {total} values in all, but "
            f"locations have {locations.shape[3]} levels and values {values.shape[1]} entries"
        )
    return _attend_images(sizes, values, locations, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    sizes: Sizes,
    values: Float[Array, "B S H D"],
    locations: Float[Array, "B Q H L P 2"],
    weights: Float[Array, "B Q H L P"],
) -> Float[Array, "B Q H*D"]:
    # Images are batched within the branches: `vmap` around them would trace each one once more.
    forward = functools.partial(_forward, sizes)
    sums = jax.lax.platform_dependent(
        values,
        locations,
        weights,
        default=at_once(forward),
        cpu=jax.vmap(functools.partial(_forward_from_tables, sizes)),
        tpu=head_by_head(forward),
    )
    return jax.lax.collapse(sums, 2, 4).astype(values.dtype)


def _attend_forward(sizes, values, locations, weights):
    return _attend(sizes, values, locations, weights), (values, locations, weights)


def _attend_backward(sizes, residuals, gradient):
    batch, _, heads, width = residuals[0].shape
    gradient = gradient.reshape(batch, -1, heads, width)
    backward = functools.partial(_backward, sizes, dots=_dots)
    gradients = jax.lax.platform_dependent(
        *residuals,
        gradient,
        default=at_once(backward),
        cpu=head_by_head(functools.partial(_backward, sizes, dots=_dots_in_one_reduction)),
        tpu=head_by_head(backward),
    )
    return tuple(g.astype(x.dtype) for g, x in zip(gradients, residuals, strict=True))


_attend.defvjp(_attend_forward, _attend_backward)
_attend_images = jax.jit(_attend, static_argnums=0)  # layers of one shape are traced once


def at_once(function: Callable) -> Callable:
    """Returns `function` of an image for several, with all heads and points in one expression."""

    def compute(*arrays):
        return jax.vmap(functools.partial(function, points_at_once=arrays[2].shape[-1]))(*arrays)

    return compute


def head_by_head(function: Callable) -> Callable:
    """Returns `function` of an image for several, in a loop over heads, one point at a time."""

    def one_head(*slices):
        results = function(*(x[:, None] for x in slices), points_at_once=1)
        return jax.tree.map(lambda x: x[:, 0], results)

    def compute(*arrays):
        heads = tuple(jnp.moveaxis(x, 2, 0) for x in arrays)
        mapped = jax.lax.map(lambda slices: jax.vmap(one_head)(*slices), heads)
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 2), mapped)

    return compute


def _places(
    sizes: Sizes, num_points: int, points_at_once: int
) -> Iterator[tuple[Size, int, Index]]:
    """Goes through the levels, and in each through its points, some at a time.

    Yields:
        The size of the level; where it starts among all values; where the points stand in arrays.
    """
    start = 0
    for level, size in enumerate(sizes):
        for first in range(0, num_points, points_at_once):
            yield size, start, (..., level, slice(first, first + points_at_once))
        start += math.prod(size)


def _corners(
    locations: Float[Array, "Q H p 2"], size: Size, start: int
) -> list[tuple[Corner, Int[Array, "Q H p"]]]:
    """Returns the points' corners, each with its row among the S x H rows of all values."""
    heads = locations.shape[1]
    head = jnp.arange(heads)[:, None]
    corners = bilinear_corners(locations, size)
    return [(corner, (corner.pixel + start) * heads + head) for corner in corners]


def _forward(
    sizes: Sizes,
    values: Float[Array, "S H D"],
    locations: Float[Array, "Q H L P 2"],
    weights: Float[Array, "Q H L P"],
    *,
    points_at_once: int,
) -> Float[Array, "Q H D"]:
    rows = jax.lax.collapse(values, 0, 2)
    result = jnp.zeros((), jnp.promote_types(values.dtype, jnp.float32))
    for size, start, here in _places(sizes, weights.shape[-1], points_at_once):
        points = locations[*here, :], weights[here]
        result = _add_points(result, rows, *points, size=size, start=start)
    return result


@functools.partial(traced_once, static_argnames=("size", "start"))
def _add_points(
    result: Float[Array, "..."],
    rows: Float[Array, "N D"],
    locations: Float[Array, "Q H p 2"],
    weights: Float[Array, "Q H p"],
    *,
    size: Size,
    start: int,
) -> Float[Array, "Q H D"]:
    """Returns the result with some points of a level added, one corner after another."""
    weights = weights.astype(result.dtype)
    for corner, row in _corners(locations, size, start):
        coefficient = corner.inside * corner.weight_x * corner.weight_y * weights
        result = result + (take_rows(rows, row) * coefficient[..., None]).sum(-2)
    return result


def _forward_from_tables(
    sizes: Sizes,
    values: Float[Array, "S H D"],
    locations: Float[Array, "Q H L P 2"],
    weights: Float[Array, "Q H L P"],
) -> Float[Array, "Q H D"]:
    """Computes `_forward` on a CPU: first tables of corners' rows and coefficients, then the sums.

    The first step runs over many points at a time and is compiled once, not for every point.
    """
    queries, heads, levels, points, _ = locations.shape

    def each(of_level: Sequence[int]) -> Int[np.ndarray, "samples"]:
        return np.tile(np.repeat(np.array(of_level, np.int32), points), heads)

    heights, widths = zip(*sizes, strict=True)
    starts = [0, *itertools.accumulate(map(math.prod, sizes[:-1]))]
    head = np.repeat(np.arange(heads, dtype=np.int32), levels * points)
    corners = list(
        bilinear_corners(locations.reshape(queries, -1, 2), (each(heights), each(widths)))
    )
    rows = jnp.stack([(corner.pixel + each(starts)) * heads + head for corner in corners])
    coefficients = jnp.stack(
        [corner.inside * corner.weight_x * corner.weight_y for corner in corners]
    ) * weights.astype(locations.dtype).reshape(queries, -1)
    shape = (len(corners), queries, heads, levels * points)
    tables = rows.reshape(shape), coefficients.reshape(shape)
    values = jax.lax.collapse(values, 0, 2)
    # In two parts, which XLA doesn't merge with the reshape that follows: merged, every channel
    # would read the tables again.
    halves = zip(*(jnp.array_split(table, 2, axis=1) for table in tables), strict=True)
    return jnp.concatenate([_sums_of_rows(values, *half) for half in halves])


@traced_once
def _sums_of_rows(
    values: Float[Array, "N D"],
    rows: Int[Array, "corners Q H points"],
    coefficients: Float[Array, "corners Q H points"],
) -> Float[Array, "Q H D"]:
    """Returns each query's sum over points and corners, one after another."""
    result = jnp.zeros((), jnp.promote_types(values.dtype, jnp.float32))
    corners, _, _, points = rows.shape
    for point, corner in itertools.product(range(points), range(corners)):
        coefficient = coefficients[corner, ..., point, None].astype(result.dtype)
        result = result + take_rows(values, rows[corner, ..., point]) * coefficient
    return result


def _backward(
    sizes: Sizes,
    values: Float[Array, "S H D"],
    locations: Float[Array, "Q H L P 2"],
    weights: Float[Array, "Q H L P"],
    gradient: Float[Array, "Q H D"],
    *,
    dots: Callable[[Sequence[Array], Array], Sequence[Array]],
    points_at_once: int,
) -> tuple[Float[Array, "S H D"], Float[Array, "Q H L P 2"], Float[Array, "Q H L P"]]:
    """Returns the derivatives; corners are recomputed, and whole rows scattered into float32.

    `dots` multiplies each of some arrays with the gradient and sums over D.
    """
    dtype = jnp.promote_types(values.dtype, jnp.float32)
    # The barrier makes XLA recompute the corners, which is cheap, instead of keeping them, and
    # allocate nothing before the gradient is there.
    values, locations, weights, gradient, zero = jax.lax.optimization_barrier(
        (values, locations, weights, gradient, jnp.zeros((), dtype))
    )
    rows = jax.lax.collapse(values, 0, 2)
    gradient = gradient.astype(dtype)[:, :, None]
    d_rows = jnp.broadcast_to(zero, rows.shape)
    d_weights, d_locations = [], []
    for size, start, here in _places(sizes, weights.shape[-1], points_at_once):
        height, width = size
        corners = _corners(locations[*here, :], size, start)
        weight = weights[here].astype(dtype)
        d_weight = d_x = d_y = jnp.zeros((), dtype)
        products = dots([take_rows(rows, row) for _, row in corners], gradient)
        for (corner, row), product in zip(corners, products, strict=True):
            dot = product * corner.inside
            d_x = d_x + dot * weight * corner.weight_y * (corner.sign_x * width)
            d_y = d_y + dot * weight * corner.weight_x * (corner.sign_y * height)
            d_weight = d_weight + dot * corner.weight_x * corner.weight_y
            coefficient = corner.inside * corner.weight_x * corner.weight_y * weight
            d_rows = d_rows.at[row].add(gradient * coefficient[..., None], mode="promise_in_bounds")
        d_locations.append(jnp.stack([d_x, d_y], axis=-1))
        d_weights.append(d_weight)
    return (
        d_rows.reshape(values.shape),
        jnp.concatenate(d_locations, axis=2).reshape(locations.shape),
        jnp.concatenate(d_weights, axis=2).reshape(weights.shape),
    )


def _dots(
    rows: Sequence[Float[Array, "Q H p D"]], gradient: Float[Array, "Q H 1 D"]
) -> list[Float[Array, "Q H p"]]:
    """Returns the dot products of every corner's row with its query's gradient."""
    return [(x * gradient).sum(-1) for x in rows]


def _dots_in_one_reduction(
    rows: Sequence[Float[Array, "Q H p D"]], gradient: Float[Array, "Q H 1 D"]
) -> Sequence[Float[Array, "Q H p"]]:
    """Computes `_dots` on a CPU, where XLA would call a slow library for separate sums."""

    def add(sums, terms):
        return tuple(a + b for a, b in zip(sums, terms, strict=True))

    products = tuple(x * gradient for x in rows)
    zeros = (np.zeros((), gradient.dtype),) * len(rows)
    return jax.lax.reduce(products, zeros, add, (gradient.ndim - 1,))
