"""The smallest numbers are top_k's, as a set."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops.selection import smallest

pytestmark = pytest.mark.optimized


def drawn(rng, shape):
    return np.abs(rng.normal(size=shape))


def few_values(rng, shape):
    return rng.integers(0, 4, shape)


def equal(_, shape):
    return np.zeros(shape)


def far_apart(rng, shape):
    return 10.0 ** rng.uniform(-44, 38, shape)  # numbers below the normal ones, too


def not_finite(rng, shape):
    return rng.choice([0.0, 1.0, np.inf, np.nan], shape)


@functools.partial(jax.jit, static_argnums=1)
def of_top_k(numbers, count):
    return jax.lax.top_k(-jnp.where(jnp.isnan(numbers), jnp.inf, numbers), count)[1]


@pytest.mark.parametrize("kind", [drawn, few_values, equal, far_apart, not_finite])
@pytest.mark.parametrize("count", [0, 1, 32, 77, 100])
def test_as_top_k(kind, count):
    """In rows of 100 numbers, which end within a word."""
    numbers = kind(np.random.default_rng(count), (2, 3, 100)).astype(np.float32)
    found = jax.jit(smallest, static_argnums=1)(numbers, count)
    assert found.shape == (2, 3, count)
    if kind is not not_finite:
        np.testing.assert_array_equal(np.sort(found), np.sort(of_top_k(numbers, count)))
    values = np.sort(np.take_along_axis(numbers, np.asarray(found), axis=-1))
    np.testing.assert_array_equal(values, np.sort(numbers)[..., :count])
    assert all(len(set(row)) == count for rows in found.tolist() for row in rows)
