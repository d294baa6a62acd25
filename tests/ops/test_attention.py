"""Attention with a mask: the sums written out, on a CPU and elsewhere, with their derivatives."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.ops.attention import dot_product_attention, softmax_sums

BATCH, HEADS, QUERIES, KEYS, CHANNELS = 2, 3, 5, 7, 4


def drawn(*shape: int, seed: int = 0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def arguments(dtype="float32"):
    counts = QUERIES, KEYS, KEYS
    arrays = [drawn(BATCH, HEADS, n, CHANNELS, seed=i) for i, n in enumerate(counts)]
    return [jnp.asarray(x).astype(dtype) for x in arrays]


def mask():
    """Differs between images; each query sees something."""
    seen = np.random.default_rng(0).random((BATCH, QUERIES, KEYS)) < 0.4
    seen[:, :, 2] |= ~seen.any(axis=-1)
    assert not seen.all()
    assert (seen[0] != seen[1]).any()
    return jnp.asarray(seen)


def written_out(queries, keys, values, seen=None):
    """Attends in float64, query by query."""
    queries, keys, values = (np.asarray(x, np.float64) for x in (queries, keys, values))
    found = np.zeros((BATCH, QUERIES, HEADS, CHANNELS))
    for image, query, head in np.ndindex(found.shape[:3]):
        there = slice(None) if seen is None else seen[image, query]
        products = keys[image, head, there] @ queries[image, head, query] / CHANNELS**0.5
        weights = np.exp(products) / np.exp(products).sum()
        found[image, query, head] = weights @ values[image, head, there]
    return found


@pytest.fixture(params=["default", "cpu"])
def platform(request, monkeypatch):
    """What one platform computes, on any."""

    def choose(*arrays, **ways):
        return ways[request.param](*arrays)

    monkeypatch.setattr(jax.lax, "platform_dependent", choose)
    jax.clear_caches()
    yield request.param
    jax.clear_caches()


@pytest.mark.usefixtures("platform")
@pytest.mark.parametrize("seen", [None, mask()], ids=["everywhere", "masked"])
@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-6), ("bfloat16", 2**-7)])
def test_attention_is_the_weighted_sum_of_values(seen, dtype, tolerance):
    arrays = arguments(dtype)
    found = dot_product_attention(*arrays, seen)
    assert found.dtype == dtype
    wide = [x.astype(jnp.float32) for x in arrays]
    np.testing.assert_allclose(
        found.astype(jnp.float32), written_out(*wide, seen), atol=tolerance, rtol=0
    )


@pytest.mark.usefixtures("platform")
def test_its_derivative_is_that_of_a_softmax():
    arrays, seen, factors = arguments(), mask(), drawn(BATCH, QUERIES, HEADS, CHANNELS)

    def plain(queries, keys, values):
        logits = jnp.einsum("bhqd,bhnd->bhqn", queries, keys) * CHANNELS**-0.5
        weights = jax.nn.softmax(jnp.where(seen[:, None], logits, -jnp.inf))
        return jnp.einsum("bhqn,bhnd->bqhd", weights, values)

    def gradients(attend):
        return jax.grad(lambda *x: (factors * attend(*x)).sum(), argnums=(0, 1, 2))(*arrays)

    ours = gradients(lambda *x: dot_product_attention(*x, seen))
    for found, expected in zip(ours, gradients(plain), strict=True):
        np.testing.assert_allclose(found, expected, atol=2e-6, rtol=0)


def test_large_logits_do_not_overflow():
    logits, values = jnp.asarray([[1e4, 1e4, -1e4, -jnp.inf]]), jnp.asarray(drawn(4, 3))
    np.testing.assert_allclose(softmax_sums(logits, values)[0], values[:2].mean(0), rtol=1e-6)


def test_only_a_cpu_keeps_weights_wide():
    traced = jax.jit(dot_product_attention).trace(*arguments("bfloat16"), None)

    def operands(platform):
        lines = traced.lower(lowering_platforms=(platform,)).as_text().splitlines()
        [*_, sums] = (line for line in lines if "stablehlo.dot_general" in line)
        return set(re.findall(r"x(f32|bf16)>", sums.rsplit(" : ")[-1].split("->")[0]))

    assert operands("cpu") == {"f32"}
    assert operands("cuda") == {"bf16"}
