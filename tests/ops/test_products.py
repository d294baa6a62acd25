"""Products in bfloat16: their values, how a CPU computes them, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.modeling.layers import dot_product_attention
from m2f_jax.ops import products

ROWS = (((1,), (0,)), ((), ()))


def drawn(*shape: int, dtype=jnp.bfloat16):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return jnp.asarray(values).astype(dtype)


def dot(a, b):
    return products.dot_general(a, b, ROWS, precision=None)


def einsum(a, b):
    return products.einsum("qn,nd->qd", a, b)


MATRICES = ((7, 40), (40, 5))
CASES = pytest.mark.parametrize(
    ("ours", "plain", "shapes"),
    [
        (dot, jnp.matmul, MATRICES),
        (einsum, jnp.matmul, MATRICES),
    ],
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


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-7)])
def test_attention_is_the_weighted_sum_of_values(dtype, tolerance):
    queries, keys, values = (drawn(2, 4, n, 8, dtype=dtype) for n in (3, 6, 6))
    wide = [np.asarray(x.astype(jnp.float32)) for x in (queries, keys, values)]
    logits = np.einsum("bhqd,bhnd->bhqn", *wide[:2]) * 8**-0.5
    weights = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = np.einsum("bhqn,bhnd->bqhd", weights, wide[2])
    found = jax.jit(dot_product_attention)(queries, keys, values, None)
    np.testing.assert_allclose(found.astype(jnp.float32), expected, atol=tolerance)
