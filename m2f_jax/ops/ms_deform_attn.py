"""Multi-scale deformable attention (Zhu et al., ICLR 2021, Eq. 3), the operator alone.

For every query, head, level and point it samples that head's values bilinearly at a given location
and sums the samples with given weights. One definition, evaluated in two orders: on a GPU all heads
and points at once, which XLA makes one fused kernel of; elsewhere head by head and point by point,
which keeps the values of a head in the cache (and the temporaries of a TPU small).

Axes: B images, S values of all levels, Q queries, H heads, D head width, L levels, P points.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from m2f_jax.ops.sampling import Corner, bilinear_corners, take_rows

Size = tuple[int, int]
Sizes = tuple[Size, ...]
Index = tuple[slice, slice, int, slice]


def ms_deform_attn(
    values: Float[Array, "B S H D"],
    sizes: Sequence[tuple[int, int]],
    locations: Float[Array, "B Q H L P 2"],
    weights: Float[Array, "B Q H L P"],
) -> Float[Array, "B Q H*D"]:
    """Weighted sums of bilinear samples, as the authors' `ms_deform_attn_core_pytorch`.

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
    attend = functools.partial(_attend, sizes)
    return jax.vmap(attend)(values, locations, weights)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _attend(
    sizes: Sizes,
    values: Float[Array, "S H D"],
    locations: Float[Array, "Q H L P 2"],
    weights: Float[Array, "Q H L P"],
) -> Float[Array, "Q H*D"]:
    sums = _by_platform(functools.partial(_forward, sizes))(values, locations, weights)
    return jax.lax.collapse(sums, 1, 3).astype(values.dtype)


def _attend_forward(sizes, values, locations, weights):
    return _attend(sizes, values, locations, weights), (values, locations, weights)


def _attend_backward(sizes, residuals, gradient):
    _, heads, width = residuals[0].shape
    gradient = gradient.reshape(-1, heads, width)
    gradients = _by_platform(functools.partial(_backward, sizes))(*residuals, gradient)
    return tuple(g.astype(x.dtype) for g, x in zip(gradients, residuals, strict=True))


_attend.defvjp(_attend_forward, _attend_backward)


def _by_platform(function: Callable) -> Callable:
    """`function` of arrays whose second axis is the head: at once on a GPU, else head by head."""

    def at_once(*arrays):
        return function(*arrays, points_at_once=arrays[2].shape[-1])

    def head_by_head(*arrays):
        def one_head(slices):
            results = function(*(x[:, None] for x in slices), points_at_once=1)
            return jax.tree.map(lambda x: x[:, 0], results)

        mapped = jax.lax.map(one_head, tuple(jnp.moveaxis(x, 1, 0) for x in arrays))
        return jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), mapped)

    def choose(*arrays):
        return jax.lax.platform_dependent(
            *arrays, default=at_once, cpu=head_by_head, tpu=head_by_head
        )

    return choose


def _places(
    sizes: Sizes, locations: Float[Array, "Q H L P 2"], points_at_once: int
) -> Iterator[tuple[Size, Index, list[tuple[Corner, Int[Array, "Q H p"]]]]]:
    """Level by level, some points at a time: what is sampled there.

    Yields:
        The size of the level; where the points stand in the arrays; their corners, each with its
        row among the S x H rows of all values.
    """
    _, heads, _, num_points, _ = locations.shape
    head = jnp.arange(heads)[:, None]
    start = 0
    for level, size in enumerate(sizes):
        for first in range(0, num_points, points_at_once):
            here = (slice(None), slice(None), level, slice(first, first + points_at_once))
            corners = bilinear_corners(locations[here], size)
            yield size, here, [(x, (x.pixel + start) * heads + head) for x in corners]
        start += math.prod(size)


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
    for _, here, corners in _places(sizes, locations, points_at_once):
        weight = weights[here].astype(result.dtype)
        for corner, row in corners:
            coefficient = corner.inside * corner.weight_x * corner.weight_y * weight
            result = result + (take_rows(rows, row) * coefficient[..., None]).sum(-2)
    return result


def _backward(
    sizes: Sizes,
    values: Float[Array, "S H D"],
    locations: Float[Array, "Q H L P 2"],
    weights: Float[Array, "Q H L P"],
    gradient: Float[Array, "Q H D"],
    *,
    points_at_once: int,
) -> tuple[Float[Array, "S H D"], Float[Array, "Q H L P 2"], Float[Array, "Q H L P"]]:
    """The derivatives; corners are computed again, whole rows are scattered into float32."""
    dtype = jnp.promote_types(values.dtype, jnp.float32)
    # The barrier makes XLA compute the corners again, which is cheap, instead of keeping them; and
    # neither them nor zeros before the gradient is there.
    values, locations, weights, gradient, zero = jax.lax.optimization_barrier(
        (values, locations, weights, gradient, jnp.zeros((), dtype))
    )
    rows = jax.lax.collapse(values, 0, 2)
    gradient = gradient.astype(dtype)[:, :, None]
    d_rows = jnp.broadcast_to(zero, rows.shape)
    d_weights, d_locations = [], []
    for (height, width), here, corners in _places(sizes, locations, points_at_once):
        weight = weights[here].astype(dtype)
        d_weight = d_x = d_y = jnp.zeros((), dtype)
        for corner, row in corners:
            dot = (take_rows(rows, row) * gradient).sum(-1) * corner.inside
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
