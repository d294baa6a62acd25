"""Fresh parameters have the statistics of the authors' initialisation."""

import dataclasses
import math
import re

import numpy as np
import pytest

from m2f_jax.config import FPNPixelDecoderConfig
from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.presets import PRESETS, preset
from m2f_jax.training.initialize import draw, rules

CONFIG = preset("swin-tiny-cityscapes-instance").config
WITH_FPN = dataclasses.replace(CONFIG, pixel_decoder=FPNPixelDecoderConfig())


@pytest.fixture(scope="module")
def fresh():
    return draw(CONFIG, 0, parameter_shapes(CONFIG))


@pytest.mark.parametrize(
    "config", [*(preset(name).config for name in PRESETS), WITH_FPN], ids=[*PRESETS, "FPN"]
)
def test_one_rule_for_each_parameter(config):
    patterns = [re.compile(pattern) for pattern in rules(config)]
    used = set()
    for parameter in parameter_shapes(config):
        fitting = [pattern for pattern in patterns if pattern.fullmatch(parameter)]
        assert len(fitting) == 1, parameter
        used |= set(fitting)
    assert used == set(patterns)


def uniform(bound):
    return bound, bound / math.sqrt(3)


@pytest.mark.parametrize(
    ("name", "bound", "deviation"),
    [
        ("backbone.patch_embedding.projection.kernel", *uniform(1 / math.sqrt(48))),
        ("backbone.stages.3.blocks.0.attention.qkv.kernel", 2.0, 0.02),
        ("backbone.merges.0.reduction.kernel", 2.0, 0.02),
        ("backbone.stages.2.blocks.0.attention.relative_position_bias", 2.0, 0.02),
        ("pixel_decoder.input_projections.0.linear.kernel", *uniform(math.sqrt(6 / (768 + 256)))),
        ("pixel_decoder.layers.0.attention.value.kernel", *uniform(math.sqrt(6 / 512))),
        ("pixel_decoder.layers.5.mlp.layers.0.kernel", *uniform(math.sqrt(6 / (256 + 1024)))),
        ("pixel_decoder.layers.5.mlp.layers.1.bias", *uniform(1 / 32)),
        ("pixel_decoder.output.kernel", *uniform(math.sqrt(3 / (9 * 256)))),
        ("pixel_decoder.mask_features.kernel", *uniform(math.sqrt(3 / 256))),
        ("decoder.queries", math.inf, 1.0),
        ("decoder.layers.0.self_attention.query.kernel", *uniform(math.sqrt(6 / (256 + 768)))),
        ("decoder.layers.8.cross_attention.output.kernel", *uniform(math.sqrt(6 / 512))),
        ("decoder.layers.8.mlp.layers.0.kernel", *uniform(math.sqrt(6 / (256 + 2048)))),
        ("decoder.heads.class_head.kernel", *uniform(1 / 16)),
        ("decoder.heads.mask_head.layers.2.bias", *uniform(1 / 16)),
    ],
)
def test_spread(fresh, name, bound, deviation):
    values = fresh[name]
    error = 4 / math.sqrt(values.size)  # four standard errors
    assert np.abs(values).max() <= bound
    assert values.std() == pytest.approx(deviation, rel=error)
    assert abs(values.mean()) < error * deviation


@pytest.mark.parametrize(
    ("name", "fan_in"),
    [
        ("pixel_decoder.top.conv.kernel", 9 * 768),
        ("pixel_decoder.steps.0.lateral.conv.kernel", 384),
        ("pixel_decoder.steps.2.output.conv.kernel", 9 * 256),
        ("pixel_decoder.mask_features.kernel", 9 * 256),
    ],
)
def test_spread_in_the_fpn(name, fan_in):
    values = draw(WITH_FPN, 0, [name])[name]
    bound, deviation = uniform(math.sqrt(3 / fan_in))
    assert np.abs(values).max() <= bound
    assert values.std() == pytest.approx(deviation, rel=4 / math.sqrt(values.size))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("backbone.stages.0.blocks.0.norm1.scale", 1),
        ("backbone.norms.2.bias", 0),
        ("backbone.stages.0.blocks.0.attention.qkv.bias", 0),
        ("pixel_decoder.layers.0.attention.sampling_offsets.kernel", 0),
        ("pixel_decoder.layers.0.attention.attention_weights.kernel", 0),
        ("decoder.layers.0.cross_attention.value.bias", 0),
    ],
)
def test_constants(fresh, name, value):
    assert (fresh[name] == value).all()


def test_heads_look_in_all_directions(fresh):
    offsets = fresh["pixel_decoder.layers.0.attention.sampling_offsets.bias"]
    offsets = offsets.reshape(8, 3, 4, 2)  # heads, levels, points, (x, y)
    np.testing.assert_allclose(offsets[0, 0], [[1, 0], [2, 0], [3, 0], [4, 0]], atol=1e-6)
    np.testing.assert_allclose(offsets[1, 2], [[1, 1], [2, 2], [3, 3], [4, 4]], atol=1e-5)
    np.testing.assert_allclose(offsets[6, 1, 2], [0, -3], atol=1e-5)


def test_a_parameter_depends_on_seed_and_name_only(fresh):
    name = "decoder.heads.class_head.kernel"
    np.testing.assert_array_equal(draw(CONFIG, 0, [name])[name], fresh[name])
    assert (draw(CONFIG, 1, [name])[name] != fresh[name]).all()
    same_shape = [f"decoder.layers.{i}.self_attention.query.kernel" for i in (0, 1)]
    assert (fresh[same_shape[0]] != fresh[same_shape[1]]).all()
