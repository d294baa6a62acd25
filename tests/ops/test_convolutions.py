"""Convolutions: on a CPU they are computed in other ways, elsewhere they are XLA's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops import convolutions

DENSE = {"strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}
ONE_PIXEL = ((1, 6, 5, 8), (1, 1, 8, 4))
NINE_PIXELS = ((1, 6, 5, 8), (3, 3, 8, 4))


def drawn(*shape: int, dtype=jnp.bfloat16):
    values = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    return jnp.asarray(values).astype(dtype)


def convolve(a, b, **options):
    return convolutions.conv_general_dilated(a, b, **{**DENSE, **options})


def plain_convolution(a, b, **options):
    options = {**DENSE, **options}
    return jax.lax.conv_general_dilated(a, b, options.pop("strides"), **options)


def check_exact_but_rounded(found, a, b, **options):
    """Checks a convolution of bfloat16 against that of the same numbers in float32."""
    expected = plain_convolution(a.astype(jnp.float32), b.astype(jnp.float32), **options)
    assert found.dtype == jnp.bfloat16
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@pytest.fixture
def always_winograd(monkeypatch):
    """Takes Winograd's algorithm for maps of any size."""
    monkeypatch.setattr(convolutions, "WINOGRAD_PIXELS", 0)
    monkeypatch.setattr(convolutions, "WINOGRAD_CHANNELS", 0)


def operations(lowered: str) -> list[str]:
    return [word for word in ("stablehlo.convolution", "stablehlo.dot_general") if word in lowered]


def lowered(function, arrays, platform):
    return jax.jit(function).trace(*arrays).lower(lowering_platforms=(platform,)).as_text()


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
def test_in_strips_it_is_the_convolution(monkeypatch, shape, kernel, padding, pixels_of_a_strip):
    monkeypatch.setattr(convolutions, "PIXELS_OF_A_STRIP", pixels_of_a_strip)
    maps, kernels = drawn(*shape, 4), drawn(*kernel, 4, 3)
    found = convolve(maps, kernels, padding=padding)
    check_exact_but_rounded(found, maps, kernels, padding=padding)


@pytest.mark.parametrize(
    ("shape", "rows", "padding"),
    [
        ((2, 7, 5), 3, ((1, 1), (1, 1))),
        ((1, 6, 8), 3, "SAME"),
        ((1, 9, 11), 5, "VALID"),
        ((2, 5, 6), 2, ((0, 2), (3, 1))),
    ],
)
@pytest.mark.usefixtures("always_winograd")
def test_by_winograd_it_is_the_convolution(shape, rows, padding):
    maps, kernels = drawn(*shape, 40, dtype=jnp.float32), drawn(rows, 3, 40, 3, dtype=jnp.float32)
    expected = plain_convolution(maps, kernels, padding=padding, precision="highest")
    with jax.default_matmul_precision("highest"):
        found = convolve(maps, kernels, padding=padding)
    assert found.shape == expected.shape
    assert np.any(found != expected), "Winograd's algorithm was not used"
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * float(np.std(expected)))


@pytest.mark.parametrize("strides", [(1, 1), (2, 2), (3, 2)])
def test_of_single_pixels_it_is_a_product(strides):
    maps, kernels = drawn(2, 7, 6, 8), drawn(1, 1, 8, 4)
    options = {"strides": strides, "padding": ((0, 0), (0, 0))}
    found = convolve(maps, kernels, **options)
    check_exact_but_rounded(found, maps, kernels, **options)
    wide = [x.astype(jnp.float32) for x in (maps, kernels)]
    expected = plain_convolution(*wide, **options)
    np.testing.assert_allclose(convolve(*wide, **options), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("kernel", [(1, 1), (3, 3)])
@pytest.mark.parametrize(
    "options",
    [
        {"strides": (2, 1)},
        {"rhs_dilation": (1, 2)},
        {"lhs_dilation": (2, 1)},
    ],
)
@pytest.mark.usefixtures("always_winograd")
def test_one_with_strides_or_dilations_is_computed_as_such(kernel, options):
    options = {"padding": ((1, 1), (1, 1)), **options}
    maps, kernels = drawn(1, 6, 8, 4), drawn(*kernel, 4, 4)
    check_exact_but_rounded(convolve(maps, kernels, **options), maps, kernels, **options)
    wide = [x.astype(jnp.float32) for x in (maps, kernels)]
    expected = plain_convolution(*wide, **options)
    np.testing.assert_array_equal(convolve(*wide, **options), expected)


@pytest.mark.parametrize(
    ("shapes", "dtype", "expected"),
    [
        (ONE_PIXEL, "float32", ["stablehlo.dot_general"]),
        (ONE_PIXEL, "bfloat16", ["stablehlo.dot_general"]),
        (NINE_PIXELS, "float32", ["stablehlo.convolution"]),
        (NINE_PIXELS, "bfloat16", ["stablehlo.dot_general"]),
    ],
)
def test_a_cpu_multiplies_and_others_convolve(shapes, dtype, expected):
    arrays = [drawn(*shape, dtype=dtype) for shape in shapes]
    assert operations(lowered(convolve, arrays, "cpu")) == expected
    for platform in ("cuda", "tpu"):
        assert operations(lowered(convolve, arrays, platform)) == ["stablehlo.convolution"]


def test_winograd_is_for_large_float32_maps_of_many_channels_on_a_cpu():
    def convolutions_of(size, channels, dtype="float32", platform="cpu"):
        arrays = (
            drawn(1, size, size, channels, dtype=dtype),
            drawn(3, 3, channels, channels, dtype=dtype),
        )
        return lowered(convolve, arrays, platform).count("stablehlo.convolution")

    large = convolutions.WINOGRAD_CHANNELS
    assert convolutions_of(24, large) == 6
    assert convolutions_of(12, large) == 1
    assert convolutions_of(24, large - 1) == 1
    assert convolutions_of(24, large, platform="cuda") == 1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shapes", [ONE_PIXEL, NINE_PIXELS])
@pytest.mark.usefixtures("always_winograd")
def test_gradients_are_those_of_the_plain_convolution(shapes, dtype):
    a, b = (drawn(*shape, dtype=dtype) for shape in shapes)

    def gradients(product):
        def loss(a, b):
            return product(a, b).astype(jnp.float32).sum()

        return jax.grad(loss, argnums=(0, 1))(a, b)

    for found, expected in zip(gradients(convolve), gradients(plain_convolution), strict=True):
        np.testing.assert_array_equal(found, expected)
