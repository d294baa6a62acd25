"""Products in bfloat16: their values, how a CPU computes them, and that nothing else changes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.modeling.layers import dot_product_attention
from m2f_jax.ops import products

ROWS = (((1,), (0,)), ((), ()))
CONVOLUTION = {
    "strides": (1, 1),
    "padding": "SAME",
    "dimension_numbers": ("NHWC", "HWIO", "NHWC"),
}


def drawn(*shape: int, dtype=jnp.bfloat16):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return jnp.asarray(values).astype(dtype)


def dot(a, b):
    return products.dot_general(a, b, ROWS, precision=None)


def einsum(a, b):
    return products.einsum("qn,nd->qd", a, b)


def convolve(a, b):
    return products.conv_general_dilated(a, b, **CONVOLUTION)


def plain_convolution(a, b):
    options = {**CONVOLUTION, "window_strides": CONVOLUTION["strides"]}
    del options["strides"]
    return jax.lax.conv_general_dilated(a, b, **options)


MATRICES, MAPS = ((7, 40), (40, 5)), ((1, 6, 5, 8), (3, 3, 8, 4))
CASES = pytest.mark.parametrize(
    ("ours", "plain", "shapes"),
    [
        (dot, jnp.matmul, MATRICES),
        (einsum, jnp.matmul, MATRICES),
        (convolve, plain_convolution, MAPS),
    ],
)


@CASES
def test_a_product_is_the_exact_one_rounded_to_bfloat16(ours, plain, shapes):
    a, b = (drawn(*shape) for shape in shapes)
    found = jax.jit(ours)(a, b)
    expected = plain(a.astype(jnp.float32), b.astype(jnp.float32))
    assert found.dtype == jnp.bfloat16
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("pixels_of_a_strip", [1, 20, 1000])
@pytest.mark.parametrize(
    ("shape", "kernel", "padding"),
    [
        ((2, 7, 5), (3, 3), ((1, 1), (1, 1))),
        ((1, 6, 8), (3, 3), "SAME"),
        ((1, 9, 8), (5, 2), "VALID"),
        ((2, 5, 6), (1, 3), ((0, 2), (3, 1))),
    ],
)
def test_a_convolution_in_strips_is_the_convolution(
    monkeypatch, shape, kernel, padding, pixels_of_a_strip
):
    monkeypatch.setattr(products, "PIXELS_OF_A_STRIP", pixels_of_a_strip)
    options = {**CONVOLUTION, "padding": padding}
    maps, kernels = drawn(*shape, 4), drawn(*kernel, 4, 3)
    found = products.conv_general_dilated(maps, kernels, **options)
    wide = [x.astype(jnp.float32) for x in (maps, kernels)]
    expected = products.conv_general_dilated(*wide, **options)
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"strides": (2, 1)}, {"rhs_dilation": (1, 2)}, {"lhs_dilation": (2, 1)}],
)
def test_a_convolution_that_is_not_dense_is_computed_as_such(options):
    options = {**CONVOLUTION, "padding": ((1, 1), (1, 1)), **options}
    maps, kernels = drawn(1, 6, 8, 4), drawn(3, 3, 4, 3)
    found = products.conv_general_dilated(maps, kernels, **options)
    wide = [x.astype(jnp.float32) for x in (maps, kernels)]
    expected = products.conv_general_dilated(*wide, **options)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@CASES
def test_a_cpu_computes_it_with_a_float32_result(ours, plain, shapes):
    arrays = [drawn(*shape) for shape in shapes]

    def results(function, platform):
        lowered = jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()
        operations = "stablehlo.convolution", "stablehlo.dot_general"
        lines = [line for line in lowered.splitlines() if any(name in line for name in operations)]
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
