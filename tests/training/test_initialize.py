"""Fresh parameters have the statistics of the authors' initialisation, and a layer is born so."""

import dataclasses
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax import Mask2Former
from m2f_jax.config import FPNPixelDecoderConfig
from m2f_jax.modeling.parameters import parameters
from m2f_jax.presets import preset
from m2f_jax.training import initialize
from tests.conftest import MICRO

CONFIG = preset("swin-tiny-cityscapes-instance").config
PIXEL, DECODER = CONFIG.pixel_decoder, CONFIG.decoder


def uniform(bound):
    return bound, bound / math.sqrt(3)


def fan_in(shape):
    return math.prod(shape[:-1])


def xavier(shape):
    return uniform(math.sqrt(6 / (fan_in(shape) + shape[-1])))


def xavier_of_three(shape):
    return uniform(math.sqrt(6 / (fan_in(shape) + 3 * shape[-1])))


def caffe(shape):
    return uniform(math.sqrt(3 / fan_in(shape)))


def torch_default(shape):
    return uniform(math.sqrt(1 / fan_in(shape)))


def torch_default_bias(inputs):
    return lambda _: uniform(math.sqrt(1 / inputs))


def zeros(_):
    return 0.0, 0.0


def normal(_):
    return math.inf, 1.0


def swin_normal(_):
    return 2.0, 0.02


DEFORMABLE = {
    r"pixel_decoder\.input_projections\.\d\.linear\.kernel": xavier,
    r"pixel_decoder\.input_projections\.\d\.linear\.bias": zeros,
    r"pixel_decoder\.level_embeddings": normal,
    r"pixel_decoder\.layers\.\d+\.attention\.(sampling_offsets|attention_weights)\.kernel": zeros,
    r"pixel_decoder\.layers\.\d+\.attention\.(value|output)\.kernel": xavier,
    r"pixel_decoder\.layers\.\d+\.attention\.(attention_weights|value|output)\.bias": zeros,
    r"pixel_decoder\.layers\.\d+\.mlp\.layers\.\d\.kernel": xavier,
    r"pixel_decoder\.layers\.\d+\.mlp\.layers\.0\.bias": torch_default_bias(PIXEL.dim),
    r"pixel_decoder\.layers\.\d+\.mlp\.layers\.1\.bias": torch_default_bias(PIXEL.ffn_dim),
    r"pixel_decoder\.(lateral\.linear|output|mask_features)\.kernel": caffe,
    r"pixel_decoder\.mask_features\.bias": zeros,
}
FPN = {
    r"pixel_decoder\.(top|steps\.\d\.(lateral|output))\.conv\.kernel": caffe,
    r"pixel_decoder\.mask_features\.kernel": caffe,
    r"pixel_decoder\.mask_features\.bias": zeros,
}
REST = {
    r".*norms?\d?(\.\d+)?\.bias": zeros,
    r"backbone\.patch_embedding\.projection\.kernel": torch_default,
    r"backbone\.patch_embedding\.projection\.bias": torch_default_bias(48),
    r"backbone\.(stages|merges)\..*\.(kernel|relative_position_bias)": swin_normal,
    r"backbone\.stages\..*(qkv|output|layers\.\d)\.bias": zeros,
    r"decoder\.(queries|query_positions|level_embeddings)": normal,
    r"decoder\.layers\.\d+\..*_attention\.(query|key|value)\.kernel": xavier_of_three,
    r"decoder\.layers\.\d+\..*_attention\.output\.kernel": xavier,
    r"decoder\.layers\.\d+\..*_attention\.(query|key|value|output)\.bias": zeros,
    r"decoder\.layers\.\d+\.mlp\.layers\.\d\.kernel": xavier,
    r"decoder\.layers\.\d+\.mlp\.layers\.0\.bias": torch_default_bias(DECODER.dim),
    r"decoder\.layers\.\d+\.mlp\.layers\.1\.bias": torch_default_bias(DECODER.ffn_dim),
    r"decoder\.heads\.(class_head|mask_head\.layers\.\d)\.kernel": torch_default,
    r"decoder\.heads\.(class_head|mask_head\.layers\.\d)\.bias": torch_default_bias(DECODER.dim),
}
ONES = re.compile(r".*norms?\d?(\.\d+)?\.scale")
DIRECTIONS = re.compile(r"pixel_decoder\.layers\.\d+\.attention\.sampling_offsets\.bias")


@pytest.fixture(scope="module")
def fresh():
    return {name: np.asarray(x[...]) for name, x in parameters(initialize(CONFIG)).items()}


def check(fresh, table):
    """Every parameter is as exactly one line of the table says, and every line is used."""
    patterns, used = {re.compile(pattern): rule for pattern, rule in table.items()}, set()
    for name, values in fresh.items():
        assert values.dtype == np.float32
        if ONES.fullmatch(name):
            assert (values == 1).all(), name
            continue
        if DIRECTIONS.fullmatch(name):
            continue
        [pattern] = [pattern for pattern in patterns if pattern.fullmatch(name)]
        used.add(pattern)
        bound, deviation = patterns[pattern](values.shape)
        error = 5 / math.sqrt(values.size)  # five standard errors: there are 600 parameters
        assert np.abs(values).max() <= bound, name
        assert values.std() == pytest.approx(deviation, rel=error), name
        assert abs(values.mean()) <= error * deviation, name
    assert used == set(patterns)


def test_a_layer_is_born_with_the_authors_initialisation(fresh):
    check(fresh, DEFORMABLE | REST)


def test_the_fpn_is_too():
    config = dataclasses.replace(CONFIG, pixel_decoder=FPNPixelDecoderConfig())
    arrays = {name: np.asarray(x[...]) for name, x in parameters(initialize(config)).items()}
    check(arrays, FPN | REST)


def test_no_two_parameters_are_the_same(fresh):
    drawn = [x for x in fresh.values() if x.std() > 0 and x.shape == (256, 256)]
    assert len(drawn) > 50
    assert len({x.tobytes() for x in drawn}) == len(drawn)


def test_heads_look_in_all_directions(fresh):
    offsets = fresh["pixel_decoder.layers.0.attention.sampling_offsets.bias"]
    offsets = offsets.reshape(8, 3, 4, 2)  # heads, levels, points, (x, y)
    np.testing.assert_allclose(offsets[0, 0], [[1, 0], [2, 0], [3, 0], [4, 0]], atol=1e-6)
    np.testing.assert_allclose(offsets[1, 2], [[1, 1], [2, 2], [3, 3], [4, 4]], atol=1e-5)
    np.testing.assert_allclose(offsets[6, 1, 2], [0, -3], atol=1e-5)


def arrays(model):
    return [np.asarray(x) for x in jax.tree.leaves(nnx.as_pure(nnx.state(model)))]


def test_a_new_model_is_what_initialize_gives():
    ours, same, other = (
        arrays(x)
        for x in (initialize(MICRO, 1), Mask2Former(MICRO, rngs=nnx.Rngs(1)), initialize(MICRO, 2))
    )
    for a, b in zip(ours, same, strict=True):
        np.testing.assert_array_equal(a, b)
    drawn = [(a != b).all() for a, b in zip(ours, other, strict=True) if a.std() > 0 and a.size > 4]
    assert sum(drawn) > 20
    assert initialize(MICRO, dtype="bfloat16").dtype == jnp.bfloat16


def test_it_can_be_drawn_under_jit():
    """As where every device draws its own part of a large model."""

    @jax.jit
    def draw(key):
        return nnx.state(Mask2Former(MICRO, rngs=nnx.Rngs(key)))

    eager = arrays(Mask2Former(MICRO, rngs=nnx.Rngs(3)))
    for a, b in zip(eager, jax.tree.leaves(draw(jax.random.key(3))), strict=True):
        np.testing.assert_array_equal(a, b)
