"""Products in bfloat16: their values, how a CPU computes them, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np

from m2f_jax.ops import products

ROWS = (((1,), (0,)), ((), ()))


def drawn(*shape: int, dtype=jnp.bfloat16):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return jnp.asarray(values).astype(dtype)


def dot(a, b):
    return products.dot_general(a, b, ROWS, precision=None)


MATRICES = ((7, 40), (40, 5))


def test_a_product_is_the_exact_one_rounded_to_bfloat16():
    a, b = (drawn(*shape) for shape in MATRICES)
    found = jax.jit(dot)(a, b)
    expected = jnp.matmul(a.astype(jnp.float32), b.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


def test_a_cpu_computes_it_with_a_float32_result():
    arrays = [drawn(*shape) for shape in MATRICES]

    def results(function, platform):
        lowered = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
        lines = [line for line in lowered.splitlines() if "stablehlo.dot_general" in line]
        return {line.rsplit("x", 1)[-1] for line in lines}

    assert results(jnp.matmul, "cpu") == {"bf16>"}
    assert results(dot, "cpu") == {"f32>"}


def test_its_gradients_are_those_of_the_plain_product():
    a, b = (drawn(*shape) for shape in MATRICES)

    def gradients(product):
        def loss(a, b):
            return product(a, b).astype(jnp.float32).sum()

        return jax.grad(loss, argnums=(0, 1))(a, b)

    for found, expected in zip(gradients(dot), gradients(jnp.matmul), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_other_dtypes_are_left_alone():
    a, b = (drawn(*shape, dtype=jnp.float32) for shape in MATRICES)
    np.testing.assert_array_equal(jax.jit(dot)(a, b), jax.jit(jnp.matmul)(a, b))
    assert "platform_index" not in str(jax.make_jaxpr(dot)(a, b))
