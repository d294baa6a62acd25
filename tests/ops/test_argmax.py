"""argmax_of_maps is argmax along the first axis."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops.argmax import argmax_of_maps


@pytest.mark.parametrize("count", [1, 8, 9, 64, 65, 150, 847])
def test_as_argmax(count):
    rng = np.random.default_rng(count)
    maps = rng.integers(0, count + 3, (count, 6, 7)).astype(np.float32)  # many are equal
    maps[:, 0, :3] = -np.inf
    maps[count // 2, 1, 1] = maps[-1, 2, 2] = np.nan
    found = jax.jit(argmax_of_maps)(jnp.asarray(maps))
    np.testing.assert_array_equal(found, maps.argmax(axis=0))
