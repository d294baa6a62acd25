"""Window attention in both orders of evaluation, against a loop in NumPy, and its derivative."""

import functools
import importlib.metadata
import itertools
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops.window_attention import (
    attend_fused,
    attend_within_windows,
    has_jax_triton,
    shifted_regions,
    window_attention,
)

pytestmark = pytest.mark.optimized

CASES = [  # batch, height, width, heads, window size, shifted
    (2, 8, 8, 2, 4, False),
    (1, 8, 12, 1, 4, True),
    (2, 9, 6, 2, 4, True),
    (1, 3, 2, 2, 4, True),
    (1, 10, 15, 1, 7, False),
    (1, 10, 15, 2, 7, True),
]


@pytest.fixture(params=["default", "tpu", "cpu"], ids=["all at once", "row by row", "sums first"])
def order(request, monkeypatch):
    """The order that one platform has, on any."""
    chosen = []

    def choose(*arrays, **orders):
        chosen.append(request.param)
        return orders.get(request.param, orders["default"])(*arrays)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    yield request.param
    assert chosen


def draw(batch, height, width, heads, window_size, head_width, *, seed=0):
    rng = np.random.default_rng(seed)
    shapes = (batch, height, width, 3 * heads * head_width), (3 * heads * head_width,)
    return [rng.normal(size=shape) for shape in (*shapes, (heads, *[window_size**2] * 2))]


def cast(arrays, dtype):
    return [jnp.asarray(x, dtype) for x in arrays]


def naive(qkv, padding, bias, *, window_size, shifted):
    """The definition, a window at a time: pixels by their coordinates, neighbours by regions."""
    batch, height, width, _ = qkv.shape
    heads = len(bias)
    shift = window_size // 2 if shifted else 0
    bottom, right = (-(-n // window_size) * window_size for n in (height, width))
    x = np.broadcast_to(padding, (batch, bottom, right, len(padding))).copy()
    x[:, :height, :width] = qkv
    x = x.reshape(*x.shape[:3], 3, heads, -1)
    result = np.zeros((batch, bottom, right, heads, x.shape[-1]))
    offsets = np.array(list(itertools.product(range(window_size), repeat=2)))
    for image, top, left in itertools.product(
        range(batch), range(0, bottom, window_size), range(0, right, window_size)
    ):
        rolled = np.add(offsets, (top, left))
        rows, columns = ((rolled + shift) % (bottom, right)).T
        wrapped = rolled + shift >= (bottom, right)
        together = (wrapped[:, None] == wrapped).all(-1)
        queries, keys, values = np.moveaxis(x[image, rows, columns], 1, 0)
        logits = np.einsum("qhd,khd->hqk", queries, keys) / np.sqrt(x.shape[-1]) + bias
        weights = np.exp(logits - 100 * ~together)
        weights /= weights.sum(-1, keepdims=True)
        result[image, rows, columns] = np.einsum("hqk,khd->qhd", weights, values)
    return result.reshape(batch, bottom, right, -1)[:, :height, :width]


def test_shifted_regions():
    # A 4 x 8 map of windows of 4 that was rolled by 2: its last two rows and columns wrapped
    # around, and the window before them is not of the same region either.
    left, right = shifted_regions((4, 8), 4).reshape(2, 4, 4)
    np.testing.assert_array_equal(left, [[3] * 4, [3] * 4, [6] * 4, [6] * 4])
    np.testing.assert_array_equal(right, [[4, 4, 5, 5]] * 2 + [[7, 7, 8, 8]] * 2)


def test_shifted_regions_of_odd_windows():
    # The shift of a window of 7 is 3: four columns stay, three come from the other end.
    [window] = shifted_regions((7, 7), 7).reshape(1, 7, 7)
    np.testing.assert_array_equal(window[0], [4, 4, 4, 4, 5, 5, 5])
    np.testing.assert_array_equal(window[:, 0], [4, 4, 4, 4, 7, 7, 7])


def test_other_regions_are_seen_through_a_logit_lowered_by_100():
    qkv = jnp.zeros((3, 1, 1, 1, 2, 1)).at[2, 0, 0, 0, :, 0].set(jnp.array([1.0, 5.0]))
    bias = jnp.array([[[0.0, 100.0], [0.0, 0.0]]])  # makes up for it, for the first query
    x = attend_within_windows(qkv, bias, np.array([[0, 1]]))
    np.testing.assert_allclose(x.ravel(), [3, 5], rtol=1e-6)
    everywhere = attend_within_windows(qkv, jnp.zeros_like(bias), None)
    np.testing.assert_allclose(everywhere.ravel(), [3, 3], rtol=1e-6)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_agrees_with_a_loop_over_windows(case):
    *shape, window_size, shifted = case
    arrays = draw(*shape, window_size, head_width=3)
    options = {"window_size": window_size, "shifted": shifted}
    with jax.enable_x64(True):
        got = jax.jit(functools.partial(window_attention, **options))(*cast(arrays, jnp.float64))
        np.testing.assert_allclose(got, naive(*arrays, **options), rtol=0, atol=1e-13)


@pytest.mark.usefixtures("order")
@pytest.mark.parametrize("case", CASES, ids=str)
def test_derivative_agrees_with_differences_of_the_loop(case):
    *shape, window_size, shifted = case
    arrays, direction = (draw(*shape, window_size, head_width=3, seed=seed) for seed in (0, 1))
    options = {"window_size": window_size, "shifted": shifted}

    def loss(attend, *arrays):
        return (attend(*arrays, **options) ** 3).sum()

    with jax.enable_x64(True):
        gradients = jax.jit(jax.grad(lambda x: loss(window_attention, *x)))(
            cast(arrays, jnp.float64)
        )
    slope = sum(np.vdot(g, d) for g, d in zip(gradients, direction, strict=True))
    before, after = (
        loss(naive, *(x + step * d for x, d in zip(arrays, direction, strict=True)))
        for step in (-1e-4, 1e-4)
    )
    np.testing.assert_allclose(slope, (after - before) / 2e-4, rtol=1e-6)


@pytest.mark.usefixtures("order")
def test_the_gradient_keeps_no_logits():
    arrays = cast(draw(1, 23, 24, 2, 8, head_width=4), jnp.float32)
    attend = functools.partial(window_attention, window_size=8, shifted=True)
    _, pull_back = jax.eval_shape(functools.partial(jax.vjp, attend), *arrays)
    kept = sum(x.size for x in jax.tree.leaves(pull_back) if jnp.issubdtype(x.dtype, jnp.floating))
    assert kept == sum(x.size for x in arrays)


def test_row_by_row_never_holds_all_logits(order):
    arrays = cast(draw(1, 96, 16, 2, 8, head_width=2), jnp.float32)
    attend = functools.partial(window_attention, window_size=8, shifted=True)
    logits = 12 * 2 * 2 * 64**2 * 4  # rows, windows of a row, heads, pairs of tokens, bytes
    gradient = jax.grad(lambda *arrays: attend(*arrays).sum(), argnums=(0, 1, 2))
    for function in (attend, gradient):
        memory = jax.jit(function).lower(*arrays).compile().memory_analysis()
        assert (memory.temp_size_in_bytes > logits) == (order != "tpu")


@pytest.mark.parametrize("shape", [(2, 15, 15), (2, 9, 9), (5, 16, 16)])
def test_refuses_a_bias_that_does_not_fit(shape):
    arrays = cast(draw(1, 8, 8, 2, 4, head_width=2), jnp.float32)
    with pytest.raises(ValueError, match=f"{shape[0]} heads and {shape[1]} x {shape[2]} tokens"):
        window_attention(*arrays[:2], jnp.zeros(shape), window_size=4, shifted=False)


@pytest.mark.parametrize("shifted", [False, True])
def test_the_kernels_gradient_is_the_plain_forms(monkeypatch, shifted):
    options = {"window_size": 4, "shifted": shifted}

    def kernel(*arrays, **given):  # its result is tested beside it
        assert given == options
        return jax.lax.stop_gradient(window_attention(*arrays, **options))

    monkeypatch.setitem(
        sys.modules,
        "m2f_jax.ops.window_attention_kernel",
        SimpleNamespace(fused_window_attention=kernel),
    )
    rng = np.random.default_rng(0)
    shapes = ((2, 6, 9, 3 * 8), (3 * 8,), (2, 16, 16))
    arrays = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]

    def total(attend):
        return jax.jit(jax.grad(lambda arrays: (attend(*arrays) ** 2).sum()))(arrays)

    ours = total(lambda *arrays: attend_fused(4, shifted, *arrays))
    plain = total(lambda *arrays: window_attention(*arrays, **options))
    for one, other in zip(ours, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("version", "used"), [("0.3.1", True), ("0.4.1", False), (None, False)])
def test_jax_triton_of_another_version_is_not_used(monkeypatch, version, used):
    def find(_):
        if version is None:
            raise importlib.metadata.PackageNotFoundError
        return version

    monkeypatch.setattr(importlib.metadata, "version", find)
    has_jax_triton.cache_clear()
    if version == "0.4.1":
        with pytest.warns(UserWarning, match=r"jax-triton 0.4.1 isn't known to work here"):
            assert not has_jax_triton()
    else:
        assert has_jax_triton() == used
    has_jax_triton.cache_clear()
