"""Convolutions, computed as each kind of processor computes them fastest.

GPUs and TPUs convolve. On a CPU, XLA's convolutions are slower than its matrix products: those of
1 x 1 may take twice as long, and those of bfloat16 are computed in float32. So there

- a convolution of 1 x 1 is the product that it is;
- a dense one of bfloat16 is made of products, in strips;
- a dense one of float32 with three columns is made of narrower ones by Winograd's algorithm, which
  multiplies half as often, where map and channels are large enough for that to pay;
- all others are XLA's.

A convolution's gradient is that of the plain convolution.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from m2f_jax.ops.products import by_platform, rounded

Sides = Sequence[tuple[int, int]]  # before and after rows, and before and after columns

AXES = ("NHWC", "HWIO", "NHWC")
PIXELS_OF_A_STRIP = 1200
# Winograd's algorithm has additions to do for each channel of a pixel, and to transform the kernel.
WINOGRAD_PIXELS, WINOGRAD_CHANNELS = 500, 256
P, Q = 2 / 3, 3 / 2  # where it evaluates polynomials


def conv_general_dilated(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    strides: Sequence[int],
    padding: str | Sides,
    **options: Any,
) -> Float[Array, "B H2 W2 D"]:
    """Computes `jax.lax.conv_general_dilated`, for `nnx.Conv`."""
    plain = functools.partial(
        jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
    )
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(x.shape[1:3], kernel.shape[:2], strides, padding)
    if x.dtype != kernel.dtype or has_gaps(**options):
        return rounded(plain, x, kernel)
    if kernel.shape[:2] == (1, 1) and not np.any(padding):
        return by_platform(plain, functools.partial(multiply_pixels, strides=strides), x, kernel)
    if tuple(strides) != (1, 1):
        return rounded(plain, x, kernel)
    if x.dtype == jnp.bfloat16:
        return by_platform(plain, functools.partial(convolve_in_strips, padding=padding), x, kernel)
    if x.dtype == jnp.float32 and is_worth_winograd(x, kernel):
        return by_platform(plain, functools.partial(convolve_in_fours, padding=padding), x, kernel)
    return plain(x, kernel)


def has_gaps(
    *,
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    feature_group_count: int = 1,
    batch_group_count: int = 1,
    **_: Any,
) -> bool:
    """Returns whether a convolution has dilations or groups."""
    steps = (*(lhs_dilation or ()), *(rhs_dilation or ()), feature_group_count, batch_group_count)
    return {*steps} != {1}


def is_worth_winograd(x: Float[Array, "B H W C"], kernel: Float[Array, "h w C D"]) -> bool:
    """Returns whether Winograd's algorithm makes a dense convolution faster."""
    height, width, *channels = kernel.shape
    return (
        width == 3
        and height > 1
        and min(channels) >= WINOGRAD_CHANNELS
        and x.shape[1] * x.shape[2] >= WINOGRAD_PIXELS
    )


def multiply_pixels(
    x: Float[Array, "B H W C"], kernel: Float[Array, "1 1 C D"], *, strides: Sequence[int]
) -> Float[Array, "B H2 W2 D"]:
    """Convolves by a kernel of one pixel: a product of every `strides`-th pixel's channels."""
    x = x[:, :: strides[0], :: strides[1]]
    wide = jnp.promote_types(x.dtype, jnp.float32)
    y = jax.lax.dot(x.reshape(-1, x.shape[-1]), kernel[0, 0], preferred_element_type=wide)
    return y.reshape(*x.shape[:3], -1).astype(x.dtype)


def convolve_in_fours(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h 3 C D"], *, padding: Sides
) -> Float[Array, "B H2 W2 D"]:
    """Convolves densely by a kernel of three columns: Winograd's F(4, 3) along rows.

    Four neighbours of a row depend on six pixels of each row around them. As coefficients, those
    four are the product of two polynomials, which six of its values determine: at 0, P, -P, Q, -Q
    and infinity. So there are six products instead of twelve. Products of all rows around are
    summed up by a convolution of one column.

    Results are rounded about twice as coarsely as those of a plain convolution. At the usual places
    0, 1, -1, 2 and -2 it would be three times.
    """
    rows, (left, right) = padding
    columns = x.shape[2] + left + right - 2
    fours = -(-columns // 4)
    x = jnp.pad(x, ((0, 0), (0, 0), (left, 4 * fours + 4 - left - x.shape[2]), (0, 0)))
    x = x.reshape(*x.shape[:2], fours + 1, 4, x.shape[3])
    six = [x[:, :, :-1, i] for i in range(4)] + [x[:, :, 1:, i] for i in range(2)]
    k = [kernel[:, i : i + 1] for i in range(3)]

    def convolve(x: Array, kernel: Array) -> Array:
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), (rows, (0, 0)), dimension_numbers=AXES
        )

    def at_both_signs(p: float, q: float) -> tuple[Array, Array]:
        """Returns the product's values at p and -p, their sum and difference; 1 / q is p."""
        even, odd = six[4] - q**2 * six[2], p * six[3] - q * six[1]
        norm = 2 * p**2 * (p**2 - q**2)
        even_kernel, odd_kernel = (k[0] + p**2 * k[2]) / norm, p / norm * k[1]
        plus = convolve(even + odd, even_kernel + odd_kernel)
        minus = convolve(even - odd, even_kernel - odd_kernel)
        return plus + minus, plus - minus

    squares = P**2 + Q**2
    at_zero = convolve(six[0] - squares * six[2] + six[4], k[0])
    at_infinity = convolve(six[1] - squares * six[3] + six[5], k[2])
    even, odd = at_both_signs(P, Q)
    even2, odd2 = at_both_signs(Q, P)
    y = [
        at_zero + even + even2,
        P * odd + Q * odd2,
        P**2 * even + Q**2 * even2,
        P**3 * odd + Q**3 * odd2 + at_infinity,
    ]
    y = jnp.stack(y, axis=3)
    return y.reshape(*y.shape[:2], 4 * fours, -1)[:, :, :columns]


def convolve_in_strips(
    x: Float[Array, "B H W C"], kernel: Float[Array, "h w C D"], *, padding: Sides
) -> Float[Array, "B H2 W2 D"]:
    """Convolves bfloat16 maps densely, in strips of rows.

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
    # older versions of XLA would copy them as float32, and so is what strips return.
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
        sums = jax.lax.dot(neighbours, weights, preferred_element_type=jnp.float32)
        return jax.lax.bitcast_convert_type(sums.astype(x.dtype), jnp.uint16)

    images = wide * (x.shape[1] + top + bottom + more) * np.arange(len(x), dtype=np.int32)
    starts = images[:, None] + pixels * np.arange(strips, dtype=np.int32)
    y = jax.lax.map(convolve, jnp.asarray(starts.ravel()))
    y = jax.lax.bitcast_convert_type(y, x.dtype).reshape(len(x), strips * rows, wide, -1)
    return y[:, :lines, : x.shape[2] + left + right - width + 1]
