"""Products of bfloat16 numbers, computed as each kind of processor computes them fastest.

GPUs and TPUs round a product to bfloat16 as they write it. XLA on a CPU has fast kernels only for
those whose result is float32: for the others it may turn all operands into float32 first, weights
included, at every call. So on a CPU the result is float32 and is rounded afterwards, which XLA
leaves out where a sum or an activation in float32 follows. Other dtypes are left alone.

A product's gradient is that of the plain product.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

Product = Callable[..., Array]
PIXELS_OF_A_STRIP = 1200


def dot_general(a: Array, b: Array, dimension_numbers: Any, **options: Any) -> Array:
    """Computes `jax.lax.dot_general`, for `nnx.Linear`."""
    return rounded(
        functools.partial(jax.lax.dot_general, dimension_numbers=dimension_numbers, **options), a, b
    )


def einsum(subscripts: str, a: Array, b: Array) -> Array:
    """Computes `jnp.einsum` of two arrays of one dtype, with a result of that dtype."""
    return rounded(functools.partial(jnp.einsum, subscripts), a, b)


def conv_general_dilated(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> Float[Array, "B H2 W2 D"]:
    """Computes `jax.lax.conv_general_dilated`, for `nnx.Conv`."""
    product = functools.partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    if not (has_neighbours(kernel) and is_dense(strides, **options)):
        return rounded(product, x, kernel)
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    return rounded(product, x, kernel, functools.partial(convolve_in_strips, padding=padding))


def has_neighbours(kernel: Float[Array, "h w C D"]) -> bool:
    """Returns whether a convolution's kernel is larger than one pixel."""
    return kernel.shape[:2] != (1, 1)


def is_dense(
    strides: Sequence[int],
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    **_: Any,
) -> bool:
    """Returns whether a convolution has neither strides, dilations nor groups."""
    steps = (*strides, *(lhs_dilation or ()), *(rhs_dilation or ()))
    return {*steps, feature_group_count, batch_group_count} == {1}


def convolve_in_strips(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    *,
    padding: Sequence[tuple[int, int]],
) -> Float[Array, "B H2 W2 D"]:
    """Convolves bfloat16 maps densely, with a float32 result, in strips of rows.

    Each strip is one matrix product: every pixel with its neighbours beside it, times the kernel.
    XLA on a CPU has no kernel for convolutions of bfloat16, but one for such products; strips are
    small enough for the neighbours to fit into the cache.
    """
    (top, bottom), (left, right) = padding
    height, width = kernel.shape[:2]
    wide = x.shape[2] + left + right
    lines = x.shape[1] + top + bottom - height + 1  # of the result
    rows = min(lines, max(1, PIXELS_OF_A_STRIP // wide))
    strips = -(-lines // rows)
    # Rows follow one another, so that any neighbour is at a fixed distance. What is beyond the
    # right border is the next row, and is cut off in the end. They are copied as integers, since
    # older versions of XLA would copy them as float32.
    bits = jax.lax.bitcast_convert_type(x, jnp.uint16)
    more = strips * rows - lines + 1
    bits = jnp.pad(bits, ((0, 0), (top, bottom + more), (left, right), (0, 0)))
    bits = bits.reshape(-1, bits.shape[-1])
    weights = kernel.reshape(-1, kernel.shape[-1])
    pixels = rows * wide
    distances = [i * wide + j for i in range(height) for j in range(width)]

    def convolve(start: Array) -> Array:
        around = jax.lax.dynamic_slice_in_dim(bits, start, pixels + distances[-1])
        neighbours = jnp.concatenate([around[d : d + pixels] for d in distances], axis=1)
        neighbours = jax.lax.bitcast_convert_type(neighbours, jnp.bfloat16)
        return jax.lax.dot(neighbours, weights, preferred_element_type=jnp.float32)

    images = wide * (x.shape[1] + top + bottom + more) * np.arange(len(x), dtype=np.int32)
    starts = images[:, None] + pixels * np.arange(strips, dtype=np.int32)
    y = jax.lax.map(convolve, jnp.asarray(starts.ravel()))
    y = y.reshape(len(x), strips * rows, wide, -1)
    return y[:, :lines, : x.shape[2] + left + right - width + 1]


def rounded(product: Product, a: Array, b: Array, wide: Product | None = None) -> Array:
    """Returns `product(a, b)`; on a CPU, of bfloat16 numbers, the result of `wide`, rounded.

    `wide` is the product with a float32 result; by default made from `product`.
    """
    if not a.dtype == b.dtype == jnp.bfloat16:
        return product(a, b)
    wide = wide or functools.partial(product, preferred_element_type=jnp.float32)
    return _in_bfloat16(product, wide, a, b)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def _in_bfloat16(product: Product, wide: Product, a: Array, b: Array) -> Array:
    return jax.lax.platform_dependent(
        a, b, default=product, cpu=lambda a, b: wide(a, b).astype(jnp.bfloat16)
    )


@_in_bfloat16.defjvp
def _derivative(product, wide, primals, tangents):
    (a, b), (da, db) = primals, tangents
    return _in_bfloat16(product, wide, a, b), product(da, b) + product(a, db)
