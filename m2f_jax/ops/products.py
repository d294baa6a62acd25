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
from jaxtyping import Array, Float

Product = Callable[..., Array]


def dot_general(a: Array, b: Array, dimension_numbers: Any, **options: Any) -> Array:
    """`jax.lax.dot_general`, for `nnx.Linear`."""
    return rounded(
        functools.partial(jax.lax.dot_general, dimension_numbers=dimension_numbers, **options), a, b
    )


def einsum(subscripts: str, a: Array, b: Array) -> Array:
    """`jnp.einsum` of two arrays of one dtype, with a result of that dtype."""
    return rounded(functools.partial(jnp.einsum, subscripts), a, b)


def conv_general_dilated(
    x: Float[Array, "B H W C"],
    kernel: Float[Array, "h w C D"],
    strides: Sequence[int],
    padding: Any,
    **options: Any,
) -> Float[Array, "B H2 W2 D"]:
    """`jax.lax.conv_general_dilated`, for `nnx.Conv`."""
    return rounded(
        functools.partial(
            jax.lax.conv_general_dilated, window_strides=strides, padding=padding, **options
        ),
        x,
        kernel,
    )


def rounded(product: Product, a: Array, b: Array) -> Array:
    """Returns `product(a, b)`."""
    if not a.dtype == b.dtype == jnp.bfloat16:
        return product(a, b)
    return _in_bfloat16(product, a, b)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _in_bfloat16(product: Product, a: Array, b: Array) -> Array:
    def wide(a: Array, b: Array) -> Array:
        return product(a, b, preferred_element_type=jnp.float32).astype(jnp.bfloat16)

    return jax.lax.platform_dependent(a, b, default=product, cpu=wide)


@_in_bfloat16.defjvp
def _derivative(product, primals, tangents):
    (a, b), (da, db) = primals, tangents
    return _in_bfloat16(product, a, b), product(da, b) + product(a, db)
