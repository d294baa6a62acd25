"""The parts of the backbone whose mistakes are easy to make, by hand; all of it is in golden."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import SwinConfig
from m2f_jax.modeling.backbones.swin import (
    PatchMerging,
    SwinTransformer,
    WindowAttention,
    pad_to_multiple,
    relative_position_index,
)
from m2f_jax.modeling.layers import gelu

TINY = SwinConfig(
    embed_dim=4, depths=(2, 1, 1, 1), num_heads=(1, 2, 2, 4), window_size=4, mlp_ratio=1.0
)


def test_relative_position_index():
    # Tokens of a 2 x 2 window: 0 1 / 2 3. Offsets of query minus key, from (-1, -1) on, by rows.
    np.testing.assert_array_equal(
        relative_position_index(2), [[4, 3, 1, 0], [5, 4, 2, 1], [7, 6, 4, 3], [8, 7, 5, 4]]
    )
    index = relative_position_index(7)
    assert index.shape == (49, 49)
    assert set(index.ravel()) == set(range(13 * 13))
    assert (np.diag(index) == 6 * 13 + 6).all()


def test_shifted_windows_look_across_the_borders_of_windows():
    attention = WindowAttention(4, 1, 4, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 8, 8, 4)), jnp.float32)

    @functools.partial(jax.jit, static_argnames="shifted")
    def gradient(row, column, *, shifted):
        return jax.grad(lambda x: attention(x, shifted=shifted)[0, row, column].sum())(x)

    def seen_from(row, column, *, shifted):
        sizes = abs(gradient(row, column, shifted=shifted)[0]).sum(axis=-1)
        return {tuple(place) for place in np.argwhere(sizes > 1e-12).tolist()}

    def block(rows, columns):
        return {(row, column) for row in rows for column in columns}

    assert seen_from(0, 3, shifted=False) == block(range(4), range(4))
    assert seen_from(2, 3, shifted=True) == block(range(2, 6), range(2, 6))
    assert seen_from(0, 3, shifted=True) == block(range(2), range(2, 6))
    assert seen_from(0, 7, shifted=True) == block(range(2), range(6, 8))


@pytest.mark.parametrize(
    ("size", "want"),
    [
        ((97, 131), [(25, 33), (13, 17), (7, 9), (4, 5)]),
        ((64, 96), [(16, 24), (8, 12), (4, 6), (2, 3)]),
        ((32, 33), [(8, 9), (4, 5), (2, 3), (1, 2)]),
    ],
)
def test_sides_are_rounded_up(size, want):
    backbone = nnx.eval_shape(
        lambda: SwinTransformer(TINY, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    )
    images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    features = jax.eval_shape(lambda backbone, x: backbone(x), backbone, images)
    widths = [4, 8, 16, 32]
    assert [x.shape for x in features] == [
        (2, *side, width) for side, width in zip(want, widths, strict=True)
    ]


def test_padding_is_at_the_bottom_and_on_the_right():
    x = jnp.ones((1, 5, 4, 1))
    padded = pad_to_multiple(x, 4)
    assert padded.shape == (1, 8, 4, 1)
    np.testing.assert_array_equal(padded[0, :, 0, 0], [1] * 5 + [0] * 3)


def test_padding_takes_part_in_attention():
    # The same pixels in two windows: where there is padding, it is seen too.
    attention = WindowAttention(4, 1, 4, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(1))
    attention = jax.tree.map(lambda x: 25 * x, attention)  # a standard deviation of 0.5
    y = attention(jnp.ones((1, 4, 6, 4)), shifted=False)[0]
    np.testing.assert_allclose(y[:, :4], jnp.broadcast_to(y[0, 0], (4, 4, 4)), rtol=1e-5)
    assert abs(y[0, 4] - y[0, 0]).max() > 0.1


def test_patch_merging_goes_down_the_columns():
    merge = PatchMerging(1, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    merge.norm = lambda x: x
    merge.reduction = lambda x: x
    x = jnp.arange(1.0, 7.0).reshape(1, 2, 3, 1)  # 1 2 3 / 4 5 6, and a column of zeros
    np.testing.assert_array_equal(merge(x)[0, 0], [[1, 4, 2, 5], [3, 6, 0, 0]])


def test_gelu_is_exact():
    x = np.linspace(-6, 6, 1001)
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x]
    with jax.enable_x64(True):
        np.testing.assert_allclose(gelu(jnp.asarray(x)), exact, rtol=0, atol=1e-14)
    single = gelu(jnp.asarray(x, jnp.float32))
    np.testing.assert_allclose(single, exact, rtol=0, atol=1e-6)


def test_gelu_of_bfloat16_is_computed_in_float32():
    x = jnp.linspace(-6, 6, 1001).astype(jnp.bfloat16)
    y = gelu(x)
    assert y.dtype == jnp.bfloat16
    exact = [0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in np.asarray(x, np.float64)]
    np.testing.assert_allclose(np.asarray(y, np.float64), exact, rtol=2**-8, atol=1e-6)
