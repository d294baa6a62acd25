"""The FPN is the authors': their layers, in PyTorch, with the same weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import FPNPixelDecoderConfig
from m2f_jax.modeling.model import network
from m2f_jax.modeling.parameters import abstract_model
from m2f_jax.modeling.pixel_decoders.fpn import FPNPixelDecoder, upsample_nearest

CHANNELS = (8, 16, 24, 40)
CONFIG = FPNPixelDecoderConfig(dim=32, mask_dim=12)
EVEN = ((32, 48), (16, 24), (8, 12), (4, 6))
ODD = ((25, 33), (13, 17), (7, 9), (4, 5))


@pytest.fixture(scope="module")
def decoder():
    """With random numbers in all parameters."""
    rng = np.random.default_rng(0)
    model = FPNPixelDecoder(CONFIG, CHANNELS, dtype=jnp.dtype("float32"), rngs=nnx.Rngs(0))
    graph, state = nnx.split(model)
    draw = lambda x: jnp.asarray(rng.normal(scale=0.3, size=x.shape), jnp.float32)  # noqa: E731
    return nnx.merge(graph, jax.tree.map(draw, state))


def features(sizes, batch=2):
    rng = np.random.default_rng(1)
    return tuple(
        jnp.asarray(rng.normal(size=(batch, *size, channels)), jnp.float32)
        for size, channels in zip(sizes, CHANNELS, strict=True)
    )


def authors_fpn(decoder, maps):
    """What `BasePixelDecoder.forward_features` computes."""
    import torch
    from torch.nn import functional

    def convolved(layer, x, padding):
        kernel = torch.tensor(np.asarray(layer.kernel[...]).transpose(3, 2, 0, 1))
        bias = None if layer.bias is None else torch.tensor(np.asarray(layer.bias[...]))
        return functional.conv2d(x, kernel, bias, padding=padding)

    def normed(layer, x, padding):
        scale, bias = (
            torch.tensor(np.asarray(p[...])) for p in (layer.norm.scale, layer.norm.bias)
        )
        return functional.group_norm(convolved(layer.conv, x, padding), 32, scale, bias)

    *finer, x = (torch.tensor(np.asarray(x).transpose(0, 3, 1, 2)) for x in maps)
    x = functional.relu(normed(decoder.top, x, 1))
    levels = [x]
    for step, y in zip(decoder.steps, reversed(finer), strict=True):
        y = normed(step.lateral, y, 0)
        x = y + functional.interpolate(x, size=y.shape[-2:], mode="nearest")
        x = functional.relu(normed(step.output, x, 1))
        levels.append(x)
    embeddings = convolved(decoder.mask_features, x, 1)
    return [x.numpy().transpose(0, 2, 3, 1) for x in (*levels[:3], embeddings)]


@pytest.mark.torch
@pytest.mark.parametrize("sizes", [EVEN, ODD])
def test_equals_the_authors(decoder, run, sizes):
    maps = features(sizes)
    pyramid = run(decoder, maps)
    *levels, embeddings = authors_fpn(decoder, maps)
    for ours, theirs in zip(
        (*pyramid.features, pyramid.per_pixel), (*levels, embeddings), strict=True
    ):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=2e-5)


@pytest.mark.parametrize("sizes", [EVEN, ODD])
def test_sizes(decoder, sizes):
    pyramid = jax.eval_shape(decoder, features(sizes))
    assert [x.shape for x in pyramid.features] == [(2, *size, 32) for size in sizes[:0:-1]]
    assert pyramid.per_pixel.shape == (2, *sizes[0], 12)


def test_upsampling_repeats_pixels():
    x = jnp.arange(6.0).reshape(1, 2, 3, 1)
    np.testing.assert_array_equal(
        upsample_nearest(x, (3, 5))[0, ..., 0],
        [[0, 0, 1, 1, 2], [0, 0, 1, 1, 2], [3, 3, 4, 4, 5]],
    )


def test_less_memory_changes_nothing(decoder, run):
    maps = features(ODD, batch=1)

    def gradient(remat):
        return jax.grad(lambda maps: decoder(maps, remat=remat).per_pixel.var())(maps)

    for kept, again in zip(run(lambda: gradient(False)), run(lambda: gradient(True)), strict=True):
        assert np.abs(kept).max() > 0
        np.testing.assert_allclose(again, kept, rtol=1e-4, atol=1e-8)


def test_the_model_has_the_configured_one(micro):
    config = dataclasses.replace(micro.config, pixel_decoder=CONFIG)
    model = abstract_model(config)
    assert isinstance(model.pixel_decoder, FPNPixelDecoder)
    image = jax.ShapeDtypeStruct((1, 97, 131, 3), jnp.float32)
    predictions = jax.eval_shape(lambda model, x: network(model, x, all_layers=False), model, image)
    assert predictions.mask_logits.shape == (1, 5, 25, 33)
