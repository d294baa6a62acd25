"""Products in bfloat16: their values, how a CPU computes them, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops import products

ROWS = (((1,), (0,)), ((), ()))


def drawn(*shape: int, dtype=jnp.bfloat16):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return jnp.asarray(values).astype(dtype)


def dot(a, b):
    return products.dot_general(a, b, ROWS, precision=None)


CASES = pytest.mark.parametrize(
    ("ours", "plain", "shapes"), [(dot, jnp.matmul, ((7, 40), (40, 5)))]
)


@CASES
def test_a_product_is_the_exact_one_rounded_to_bfloat16(ours, plain, shapes):
    a, b = (drawn(*shape) for shape in shapes)
    found = jax.jit(ours)(a, b)
    expected = plain(a.astype(jnp.float32), b.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@CASES
def test_a_cpu_computes_it_with_a_float32_result(ours, plain, shapes):
    arrays = [drawn(*shape) for shape in shapes]

    def results(function, platform):
        lowered = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
        lines = [line for line in lowered.splitlines() if "stablehlo.dot_general" in line]
        return {line.rsplit("x", 1)[-1] for line in lines}

    assert results(plain, "cpu") == {"bf16>"}
    assert results(ours, "cpu") == {"f32>"}


@CASES
def test_its_gradients_are_those_of_the_plain_product(ours, plain, shapes):
    a, b = (drawn(*shape) for shape in shapes)

    def gradients(product):
        def loss(a, b):
            return product(a, b).astype(jnp.float32).sum()

        return jax.grad(loss, argnums=(0, 1))(a, b)

    for found, expected in zip(gradients(ours), gradients(plain), strict=True):
        np.testing.assert_array_equal(found, expected)


@CASES
def test_other_dtypes_are_left_alone(ours, plain, shapes):
    a, b = (drawn(*shape, dtype=jnp.float32) for shape in shapes)
    np.testing.assert_array_equal(jax.jit(ours)(a, b), jax.jit(plain)(a, b))
    assert "platform_index" not in str(jax.make_jaxpr(ours)(a, b))
