"""Samples of one channel and their derivative, beside PyTorch's definition written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from m2f_jax.ops.sampling import random_points, sample_map

pytestmark = pytest.mark.optimized

HEIGHT, WIDTH = 5, 7


def weights(points):
    """What each pixel counts in each sample: it falls off over one pixel on either side."""
    by_axis = [
        np.maximum(0, 1 - np.abs(points[:, axis, None] * side - 0.5 - np.arange(side)))
        for axis, side in enumerate((WIDTH, HEIGHT))
    ]
    return by_axis[1][:, :, None] * by_axis[0][:, None, :]


def points_everywhere(rng):
    inside = rng.random((50, 2))
    edges = np.stack(np.meshgrid([0, 0.5 / WIDTH, 1], [0, 2.5 / HEIGHT, 1]), -1).reshape(-1, 2)
    beyond = rng.uniform(-1.5, 2.5, (50, 2))
    return np.concatenate([inside, edges, beyond]).astype(np.float32)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_samples_and_derivative(dtype):
    rng = np.random.default_rng(0)
    image = jnp.asarray(rng.normal(size=(HEIGHT, WIDTH)), dtype)
    points = jnp.asarray(points_everywhere(rng))
    samples, derivative = jax.jit(lambda x: jax.vjp(lambda x: sample_map(x, points), x))(image)
    tolerance = 3e-6
    expected = np.einsum("phw,hw->p", weights(points), np.asarray(image, np.float32))
    np.testing.assert_allclose(samples, expected, atol=tolerance)
    outer = rng.normal(size=len(points)).astype(np.float32)
    (found,) = derivative(outer)
    assert found.dtype == dtype
    expected = np.einsum("phw,p->hw", weights(points), outer)
    tolerance = 2e-5 if dtype == jnp.float32 else 2e-2 * np.abs(expected).max()
    np.testing.assert_allclose(np.asarray(found, np.float32), expected, atol=tolerance)


@pytest.mark.torch
def test_samples_round_as_pytorchs():
    """At points that PyTorch's range of -1 to 1 has, too; added otherwise, 17 % differ."""
    torch = pytest.importorskip("torch", reason="needs torch (pip install m2f-jax[torch])")
    rng = np.random.default_rng(2)
    image = rng.normal(size=(48, 96)).astype(np.float32)
    points = np.asarray(random_points(jax.random.key(2), (10_000,)))
    ours = jax.jit(sample_map)(jnp.asarray(image), jnp.asarray(points))
    grid = torch.from_numpy(2 * points - 1)[None, None]
    theirs = torch.nn.functional.grid_sample(
        torch.from_numpy(image)[None, None], grid, align_corners=False
    )
    assert (np.asarray(ours) != theirs[0, 0, 0].numpy()).mean() < 0.01


def test_masks():
    rng = np.random.default_rng(1)
    mask = jnp.asarray(rng.random((HEIGHT, WIDTH)) < 0.5)
    points = jnp.asarray(points_everywhere(rng))
    expected = np.einsum("phw,hw->p", weights(points), mask)
    np.testing.assert_allclose(jax.jit(sample_map)(mask, points), expected, atol=3e-6)


def test_random_points():
    """Uniform in both axes, which have nothing to do with each other."""
    points = np.asarray(random_points(jax.random.key(0), (4, 50_000)))
    assert points.shape == (4, 50_000, 2)
    assert points.min() > 0
    assert points.max() < 1
    x, y = points.reshape(-1, 2).T
    counts, *_ = np.histogram2d(x, y, bins=10, range=[(0, 1), (0, 1)])
    assert scipy.stats.chisquare(counts.ravel()).pvalue > 0.001
    assert len(np.unique(points[..., 0])) > 60_000
