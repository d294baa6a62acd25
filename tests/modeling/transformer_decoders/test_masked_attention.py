"""Attention masks, which are predicted at the size that a layer looks at and not shrunk to it."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import TransformerDecoderConfig
from m2f_jax.modeling.layers import Attention, relu
from m2f_jax.modeling.transformer_decoders.heads import mask_logits
from m2f_jax.modeling.transformer_decoders.masked_attention import (
    TransformerDecoder,
    attention_mask,
)
from m2f_jax.ops.resize import resize_bilinear
from m2f_jax.structures import FeaturePyramid


def shrink(logits, size):
    """Mask logits [B, Q, H, W], resized as maps with the queries for channels."""
    return jnp.moveaxis(resize_bilinear(jnp.moveaxis(logits, 1, -1), size), -1, 1)


@pytest.mark.parametrize(
    ("full", "size"),
    [
        ((16, 24), (8, 12)),
        ((16, 24), (4, 6)),
        ((16, 24), (2, 3)),
        ((25, 33), (13, 17)),
        ((25, 33), (7, 9)),
        ((25, 33), (4, 5)),
    ],
)
def test_masks_of_resized_embeddings_are_resized_masks(full, size):
    rng = np.random.default_rng(0)
    embeddings = jnp.asarray(rng.normal(size=(2, 5, 16)), jnp.float32)
    per_pixel = jnp.asarray(rng.normal(size=(2, *full, 16)), jnp.float32)
    with jax.default_matmul_precision("highest"):
        ours = mask_logits(embeddings, resize_bilinear(per_pixel, size))
        theirs = shrink(mask_logits(embeddings, per_pixel), size)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)

    clear = (abs(theirs) > 1e-4).reshape(2, 5, -1)
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(attention_mask(ours)[clear], attention_mask(theirs)[clear])


def test_a_query_with_an_empty_mask_looks_everywhere():
    logits = np.full((1, 3, 2, 3), -1, np.float32)
    logits[0, 1, 1, 2] = 0  # a probability of exactly one half is inside
    mask = attention_mask(jnp.asarray(logits))
    np.testing.assert_array_equal(
        mask, [[[True] * 6, [False, False, False, False, False, True], [True] * 6]]
    )


def test_a_full_mask_is_not_an_empty_one():
    logits = jnp.ones((2, 2, 3, 3)).at[1, 1].set(-1).at[1, 1, 0, 0].set(1)
    mask = attention_mask(logits)
    assert mask[0].all()
    np.testing.assert_array_equal(mask[1, 1], [True] + [False] * 8)


@pytest.mark.parametrize("factor", [2, 4, 8])
def test_shrinking_takes_the_mean_of_each_cells_centre(factor):
    x = np.random.default_rng(0).normal(size=(1, 3 * factor, 2 * factor, 2)).astype(np.float32)
    cells = x.reshape(1, 3, factor, 2, factor, 2)
    centre = slice(factor // 2 - 1, factor // 2 + 1)
    want = cells[:, :, centre, :, centre].mean(axis=(2, 4))
    np.testing.assert_allclose(resize_bilinear(jnp.asarray(x), (3, 2)), want, rtol=0, atol=1e-6)


CONFIG = TransformerDecoderConfig(dim=16, num_layers=2, num_heads=2, ffn_dim=8, num_queries=3)
PLAIN = dataclasses.replace(CONFIG, masked=False)


def make_decoder(cfg):
    return TransformerDecoder(cfg, 2, 8, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))


@pytest.fixture(scope="module")
def decoder():
    return make_decoder(CONFIG)


@pytest.fixture(scope="module")
def pyramid():
    rng = np.random.default_rng(0)
    sizes = [(2, 3, 16), (4, 5, 16), (7, 9, 16), (13, 18, 8)]
    *features, per_pixel = (jnp.asarray(rng.normal(size=(1, *s)), jnp.float32) for s in sizes)
    return FeaturePyramid(tuple(features), per_pixel)


def test_no_gradient_goes_through_attention_masks(decoder, pyramid):
    @jax.jit
    def class_logits(per_pixel):  # these depend on the embeddings through attention masks only
        return decoder(pyramid._replace(per_pixel=per_pixel)).class_logits

    gradient = jax.grad(lambda x: class_logits(x).sum())(pyramid.per_pixel)
    assert (gradient == 0).all()
    assert (class_logits(-pyramid.per_pixel) != class_logits(pyramid.per_pixel)).all()


def test_all_layers_end_with_the_last_one(decoder, pyramid, run):
    every_layer = run(functools.partial(decoder, all_layers=True), pyramid)
    assert len(every_layer) == 3
    close = functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5)
    jax.tree.map(close, every_layer[-1], run(decoder, pyramid))
    shapes = {(x.class_logits.shape, x.mask_logits.shape) for x in every_layer}
    assert shapes == {((1, 3, 3), (1, 3, 13, 18))}


def test_no_mask_is_a_mask_that_is_true_everywhere(run):
    attention = Attention(16, 2, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    rng = np.random.default_rng(0)
    queries, keys = (jnp.asarray(rng.normal(size=(2, n, 16)), jnp.float32) for n in (3, 10))
    plain = run(attention, queries, keys, keys)
    masked = run(attention, queries, keys, keys, jnp.ones((2, 3, 10), bool))
    np.testing.assert_allclose(plain, masked, rtol=0, atol=1e-6)


def test_relu_is_that_of_the_field():
    x = jnp.array([-jnp.inf, -1.5, -0.0, 0.0, 1e-30, 2.0, jnp.inf, jnp.nan])
    np.testing.assert_array_equal(relu(x), jax.nn.relu(x))
    np.testing.assert_array_equal(jax.vmap(jax.grad(relu))(x[:-1]), x[:-1] > 0)


def test_plain_attention_looks_everywhere(decoder, pyramid, monkeypatch, run):
    """As masked attention with masks that are True everywhere, and with the same parameters."""
    plain = run(make_decoder(PLAIN), pyramid)
    assert np.abs(plain.mask_logits - run(decoder, pyramid).mask_logits).max() > 1e-3
    monkeypatch.setattr(
        "m2f_jax.modeling.transformer_decoders.masked_attention.attention_mask",
        lambda logits: jnp.ones_like(jax.lax.collapse(logits, 2, 4), bool),
    )
    open_masks = run(make_decoder(CONFIG), pyramid)
    jax.tree.map(
        functools.partial(np.testing.assert_allclose, rtol=0, atol=1e-5), plain, open_masks
    )


def test_plain_attention_predicts_no_masks_between_layers(pyramid, equations):
    def shapes(cfg):
        jaxpr = jax.make_jaxpr(lambda x: make_decoder(cfg)(x))(pyramid)
        return {x.aval.shape for equation in equations(jaxpr) for x in equation.outvars}

    between = {(1, 3, 2, 3), (1, 3, 4, 5)}  # of three queries, at the sizes of the two layers
    assert between <= shapes(CONFIG)
    assert not between & shapes(PLAIN)
