"""Bilinear resizing is PyTorch's, with half-pixel centres and without smoothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops.resize import (
    bilinear_band,
    bilinear_taps,
    enlarge_bilinear,
    nearest_taps,
    resize_bilinear,
    resize_rows,
)

pytestmark = pytest.mark.optimized

SIZES = [  # up, down, by odd factors, one axis alone, from and to one pixel
    ((8, 12), (16, 24)),
    ((16, 24), (8, 12)),
    ((16, 24), (2, 3)),
    ((25, 33), (7, 9)),
    ((7, 9), (13, 17)),
    ((5, 6), (5, 11)),
    ((1, 1), (3, 4)),
    ((6, 7), (1, 1)),
]


def test_hand_values():
    row = jnp.array([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1)
    twice = resize_bilinear(row, (1, 6)).ravel()
    np.testing.assert_array_equal(twice, [0, 1, 3, 5, 7, 8])  # the ends are continued
    third = resize_bilinear(row, (1, 1)).ravel()
    np.testing.assert_array_equal(third, [4])
    column = jnp.arange(6.0).reshape(1, 6, 1, 1)
    np.testing.assert_array_equal(resize_bilinear(column, (2, 1)).ravel(), [1, 4])  # no smoothing
    np.testing.assert_array_equal(resize_bilinear(column, (3, 1)).ravel(), [0.5, 2.5, 4.5])


def test_the_same_size_is_the_same_array():
    x = jnp.arange(24.0).reshape(1, 4, 3, 2)
    np.testing.assert_array_equal(resize_bilinear(x, (4, 3)), x)


@pytest.mark.torch
@pytest.mark.parametrize(("source", "target"), SIZES)
def test_equals_pytorch(source, target):
    import torch

    x = np.random.default_rng(0).normal(size=(2, *source, 3)).astype(np.float32)
    channels_first = torch.from_numpy(x).double().permute(0, 3, 1, 2)
    theirs = torch.nn.functional.interpolate(
        channels_first, target, mode="bilinear", align_corners=False
    ).permute(0, 2, 3, 1)
    ours = jax.jit(resize_bilinear, static_argnums=1)(x, target)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.torch
def test_nearest_equals_pytorch():
    import torch

    for source, target in ((64, 16), (58, 15), (77, 20), (5, 11), (1333, 334), (3, 3)):
        rows = torch.arange(source, dtype=torch.float32)[None, None]
        theirs = torch.nn.functional.interpolate(rows, target, mode="nearest")[0, 0]
        np.testing.assert_array_equal(nearest_taps(source, target), theirs)


@pytest.mark.parametrize(("source", "target"), [((8, 12), (32, 48)), ((15, 20), (58, 77))])
def test_enlarging_by_products_is_the_same(source, target):
    x = jnp.asarray(np.random.default_rng(0).normal(size=source), jnp.float32)
    plain = resize_bilinear(x[None, ..., None], target)[0, ..., 0]
    np.testing.assert_allclose(enlarge_bilinear(x, target), plain, rtol=0, atol=1e-6)


def dense(band, columns):
    """The matrix that a band is."""
    matrix = np.zeros((len(band.first), columns + band.weights.shape[1]))
    places = band.first[:, None] + np.arange(band.weights.shape[1])
    np.add.at(matrix, (np.arange(len(matrix))[:, None], places), band.weights)
    assert not matrix[:, columns:].any()
    return matrix[:, :columns]


@pytest.mark.parametrize(("source", "target"), SIZES)
def test_the_matrices_do_the_same(source, target):
    x = np.random.default_rng(0).normal(size=(2, *source, 3)).astype(np.float32)
    rows, columns = (dense(bilinear_band(s, t), s) for s, t in zip(source, target, strict=True))
    product = np.einsum("bhwc,Hh,Ww->bHWc", x, rows, columns)
    ours = resize_bilinear(jnp.asarray(x), target)
    np.testing.assert_allclose(ours, product, rtol=0, atol=1e-6)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=0, atol=1e-12)


def test_rows_of_a_band_are_resized_as_by_the_matrix():
    for source, between, target in [(1, 5, 3), (5, 5, 1), (7, 13, 29), (96, 96, 96), (9, 1000, 3)]:
        band = bilinear_band(source, between)
        ours = dense(resize_rows(band, target), source)
        product = dense(bilinear_band(between, target), between) @ dense(band, source)
        np.testing.assert_allclose(ours, product, rtol=0, atol=1e-12)


def test_taps_are_neighbours_inside_the_source():
    for source, target in [(1, 5), (5, 1), (7, 13), (13, 7), (3, 1000), (1000, 3)]:
        first, second, weight = bilinear_taps(source, target)
        assert len(first) == len(second) == len(weight) == target
        assert first.min() >= 0
        assert second.max() < source
        assert set(second - first) <= {0, 1}
        assert weight.min() >= 0
        assert weight.max() < 1


def test_keeps_the_dtype_and_has_a_gradient():
    x = jnp.ones((1, 4, 4, 1), jnp.bfloat16)
    assert resize_bilinear(x, (6, 3)).dtype == jnp.bfloat16
    gradient = jax.grad(lambda x: resize_bilinear(x, (2, 2)).sum())(jnp.ones((1, 8, 4, 1)))
    np.testing.assert_allclose(gradient[0, :, 0, 0], [0, 0.25, 0.25, 0] * 2)  # 2 of every 4 rows
