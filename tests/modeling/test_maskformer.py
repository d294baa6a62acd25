"""MaskFormer's own: one coarse map, a prediction per layer, and dropout in training."""

import dataclasses
import functools
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import (
    Mask2FormerConfig,
    MaskFormerConfig,
    MaskFormerDecoderConfig,
    MaskFormerPixelDecoderConfig,
    ResNetConfig,
)
from m2f_jax.modeling.maskformer import MaskFormer
from m2f_jax.modeling.model import network, training_network
from m2f_jax.modeling.parameters import abstract_model
from m2f_jax.ops.dropout import dropout
from tests.conftest import MICRO as MASK2FORMER

B, H, W = 2, 70, 90
ENCODED = MaskFormerPixelDecoderConfig(
    dim=32, fpn_dim=32, mask_dim=8, encoder_layers=1, num_heads=2, ffn_dim=12
)
MICRO = MaskFormerConfig(
    labels=MASK2FORMER.labels,
    task="panoptic",
    backbone=ResNetConfig(depths=(1, 1, 1, 1), stem_dim=4, dim=8),
    pixel_decoder=ENCODED,
    decoder=MaskFormerDecoderConfig(dim=32, num_layers=2, num_heads=4, ffn_dim=10, num_queries=5),
)


def without_encoder(dim):
    return MaskFormerPixelDecoderConfig(dim=dim, fpn_dim=32, mask_dim=8)


def test_dropout_keeps_the_mean():
    x = jnp.full((200, 100), 3.0)
    assert dropout(x, 0.25, None) is x
    dropped = np.asarray(dropout(x, 0.25, jax.random.key(0)))
    assert set(np.unique(dropped)) == {0.0, 4.0}
    assert abs((dropped == 0).mean() - 0.25) < 0.01
    assert dropout(x.astype(jnp.bfloat16), 0.25, jax.random.key(0)).dtype == jnp.bfloat16


def test_what_is_dropped(equations):
    """Attention's weights, what both attentions and the MLP add, and the MLP's hidden layer."""

    def every_layer(model, images, key):
        return training_network(model, images, drop_key=key)

    images = jax.ShapeDtypeStruct((B, H, W, 3), jnp.float32)
    jaxpr = jax.make_jaxpr(every_layer)(abstract_model(MICRO), images, jax.random.key(0))
    drawn = Counter(
        equation.outvars[0].aval.shape
        for equation in equations(jaxpr)
        if equation.primitive.name == "random_bits"
    )
    pixels, queries, layers = 3 * 3, 5, 2
    assert drawn == {
        (B, 2, pixels, pixels): 1,
        (B, pixels, 32): 2,
        (B * pixels, 12): 1,
        (B, 4, queries, queries): layers,
        (B, 4, queries, pixels): layers,
        (B, queries, 32): 3 * layers,
        (B * queries, 10): layers,
    }


def test_draws_are_all_different_and_of_the_rate(run, monkeypatch):
    """There are 4 draws in an encoder layer, and 6 in a decoder layer."""
    keys, rates = [], []

    def record(key, kept):
        keys.append(tuple(key.tolist()))
        rates.append(1 - kept)

    def bernoulli(key, kept, shape):
        jax.debug.callback(record, jax.random.key_data(key), kept)
        return jnp.ones(shape, bool)

    monkeypatch.setattr(jax.random, "bernoulli", bernoulli)
    config = dataclasses.replace(
        MICRO,
        pixel_decoder=dataclasses.replace(ENCODED, encoder_layers=2, dropout=0.25),
        decoder=dataclasses.replace(MICRO.decoder, dropout=0.125),
    )
    draw = functools.partial(training_network, drop_key=jax.random.key(0))
    # No other test has three images: JAX keeps the attention as it was traced for a shape.
    predictions = run(draw, MaskFormer(config, rngs=nnx.Rngs(0)), jnp.zeros((3, 64, 64, 3)))
    jax.block_until_ready(predictions)
    jax.effects_barrier()
    assert len(set(keys)) == len(keys)
    np.testing.assert_allclose(sorted(rates), [0.125] * (2 * 6) + [0.25] * (2 * 4), rtol=1e-6)


def test_layers_that_are_computed_again_drop_the_same(run):
    model = MaskFormer(MICRO, rngs=nnx.Rngs(0))
    images = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype(np.float32)

    def logits(model, images, key):
        options = ({}, {"drop_key": key}, {"drop_key": key, "remat": True})
        return [training_network(model, images, **x).class_logits for x in options]

    plain, dropped, again = run(logits, model, images, jax.random.key(3))
    np.testing.assert_allclose(again, dropped, rtol=0, atol=1e-5)
    assert np.abs(np.asarray(dropped) - plain).max() > 1e-2


@pytest.mark.parametrize("pixel_decoder", [ENCODED, without_encoder(24)])
def test_one_prediction_per_layer(pixel_decoder):
    decoder = dataclasses.replace(MICRO.decoder, dim=pixel_decoder.dim)
    config = dataclasses.replace(MICRO, pixel_decoder=pixel_decoder, decoder=decoder)
    images = jax.ShapeDtypeStruct((B, H, W, 3), jnp.float32)
    call = functools.partial(network, all_layers=True)
    every = jax.eval_shape(call, abstract_model(config), images)
    assert len(every) == config.decoder.num_layers
    assert every[0].class_logits.shape == (B, 5, 3)
    assert every[0].mask_logits.shape == (B, 5, 18, 23)


def test_initial_values_are_the_authors():
    """Glorot's of the attentions and MLPs, c2_xavier_fill's of the projection, biases of zeros."""
    sizes = dataclasses.replace(ENCODED, dim=64, fpn_dim=64, ffn_dim=256)
    decoder = dataclasses.replace(MICRO.decoder, dim=64, ffn_dim=256)
    model = MaskFormer(
        dataclasses.replace(MICRO, pixel_decoder=sizes, decoder=decoder), rngs=nnx.Rngs(0)
    )

    def bound(layer):
        assert not np.any(layer.bias[...])
        return float(jnp.abs(layer.kernel[...]).max())

    for layer in (*model.pixel_decoder.layers, *model.decoder.layers):
        attentions = [x for x in vars(layer).values() if hasattr(x, "query")]
        for attention in attentions:
            for part in (attention.query, attention.key, attention.value):
                assert bound(part) == pytest.approx((6 / (4 * 64)) ** 0.5, rel=0.02)
            assert bound(attention.output) == pytest.approx((6 / (2 * 64)) ** 0.5, rel=0.02)
        for linear in layer.mlp.layers:
            largest = float(jnp.abs(linear.kernel[...]).max())
            assert largest == pytest.approx((6 / (64 + 256)) ** 0.5, rel=0.02)
    projection = model.pixel_decoder.input_projection
    assert bound(projection) == pytest.approx((3 / MICRO.backbone.channels[-1]) ** 0.5, rel=0.02)
    assert float(model.decoder.query_positions[...].std()) == pytest.approx(1, rel=0.2)


def test_the_masked_decoder_needs_three_maps():
    with pytest.raises(ValueError, match="one map, and the masked-attention decoder reads three"):
        Mask2FormerConfig(
            labels=MICRO.labels, task="panoptic", pixel_decoder=MaskFormerPixelDecoderConfig()
        )
