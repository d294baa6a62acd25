"""Products of bfloat16 numbers, computed as each kind of processor computes them fastest.

GPUs and TPUs round a product to bfloat16 as they write it. XLA on a CPU has fast kernels only for
those whose result is float32: for the others it may turn all operands into float32 first, weights
included, at every call. So on a CPU the result is float32 and is rounded afterwards, which XLA
leaves out where a sum or an activation in float32 follows. Other dtypes are left alone.

A product's gradient is that of the plain product.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

Product = Callable[..., Array]


def dot_general(a: Array, b: Array, dimension_numbers: Any, **options: Any) -> Array:
    """Computes `jax.lax.dot_general`, for `nnx.Linear`."""
    return rounded(
        functools.partial(jax.lax.dot_general, dimension_numbers=dimension_numbers, **options), a, b
    )


def rounded(product: Product, a: Array, b: Array) -> Array:
    """Returns `product(a, b)`; on a CPU, of bfloat16 numbers, summed up and rounded in float32."""
    if not a.dtype == b.dtype == jnp.bfloat16:
        return product(a, b)
    return by_platform(product, functools.partial(_with_wide_result, product), a, b)


def _with_wide_result(product: Product, a: Array, b: Array) -> Array:
    return product(a, b, preferred_element_type=jnp.float32).astype(jnp.bfloat16)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def by_platform(product: Product, on_cpu: Product, a: Array, b: Array) -> Array:
    """Returns `product(a, b)`, computed by `on_cpu` on a CPU, with the gradient of `product`."""
    return jax.lax.platform_dependent(a, b, default=product, cpu=on_cpu)


@by_platform.defjvp
def _derivative(product, on_cpu, primals, tangents):
    (a, b), (da, db) = primals, tangents
    return by_platform(product, on_cpu, a, b), product(da, b) + product(a, db)
