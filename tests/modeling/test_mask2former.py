"""The whole model: presets by their shapes, what it refuses, and how JAX transforms it."""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import FPNPixelDecoderConfig, Mask2FormerConfig, PixelDecoderConfig
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.model import without_kernels
from m2f_jax.modeling.parameters import abstract_model, parameter_shapes
from m2f_jax.presets import PRESETS


def images(batch=2, height=40, width=50):
    return np.random.default_rng(0).normal(size=(batch, height, width, 3)).astype(np.float32)


# --- Presets -------------------------------------------------------------------------------------

ARCHITECTURES = {
    (p.config.backbone, p.config.decoder): name
    for name, p in PRESETS.items()
    if p.architecture == "mask2former"
}
FORWARD = {backbone: name for (backbone, _), name in ARCHITECTURES.items()}  # one of each
PARAMETERS = {"tiny": 47_403_139, "large": 215_503_485}  # with 8 classes, and 100 and 200 queries


@pytest.mark.parametrize("name", ARCHITECTURES.values())
def test_presets(name):
    config = PRESETS[name].config
    queries, classes = config.decoder.num_queries, config.num_classes
    shapes = parameter_shapes(config)
    assert shapes["decoder.queries"] == shapes["decoder.query_positions"] == (queries, 256)
    assert shapes["decoder.heads.class_head.kernel"] == (256, classes + 1)
    backbone = name.split("-")[1]
    if backbone in PARAMETERS:
        count = PARAMETERS[backbone] + (classes - 8) * (256 + 1)
        count += (queries - (200 if backbone == "large" else 100)) * 2 * 256
        assert sum(map(math.prod, shapes.values())) == count


@pytest.mark.parametrize("name", FORWARD.values())
def test_shapes_of_predictions(name):
    config = PRESETS[name].config
    queries, classes = config.decoder.num_queries, config.num_classes
    pixel_values = jax.ShapeDtypeStruct((2, 97, 131, 3), jnp.float32)
    predictions = jax.eval_shape(lambda model, x: model(x), abstract_model(config), pixel_values)
    assert predictions.class_logits.shape == (2, queries, classes + 1)
    assert predictions.mask_logits.shape == (2, queries, 25, 33)


# --- Input ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pixel_values", "message"),
    [
        (images().transpose(0, 3, 1, 2), r"\(2, 3, 40, 50\).*channels-first.*moveaxis"),
        (images()[0], r"\(40, 50, 3\); expected \[batch.*pixel_values\[None\]"),
        (images()[..., :1], r"\(2, 40, 50, 1\); expected \[batch, height, width, 3\]"),
        (images().astype(np.uint8), "dtype uint8; expected normalised floats. ImageProcessor"),
        (images(height=31), "31 x 50; both sides must be at least 32"),
        (images(width=0), "40 x 0; both sides"),
    ],
)
def test_other_inputs_are_refused(micro, pixel_values, message):
    with pytest.raises(ValueError, match=message):
        micro(pixel_values)
    with pytest.raises(ValueError, match=message):
        jax.jit(lambda x: micro(x))(pixel_values)


def test_numpy_and_jax_arrays_are_the_same(micro):
    ours = micro(images())
    jax.tree.map(np.testing.assert_array_equal, ours, micro(jnp.asarray(images())))
    assert [x.shape for x in ours] == [(2, 5, 3), (2, 5, 10, 13)]


# --- Transformations -----------------------------------------------------------------------------


def test_vmap(micro, run):
    def one_by_one(pixel_values):
        return jax.vmap(lambda x: jax.tree.map(lambda y: y[0], micro(x[None])))(pixel_values)

    for ours, theirs in zip(run(one_by_one, images()), micro(images()), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


def test_as_a_function_of_plain_arrays(micro):
    graph, state = nnx.split(micro)
    parameters = nnx.as_pure(state)
    forward = jax.jit(lambda parameters, x: nnx.merge(graph, parameters)(x))
    jax.tree.map(np.testing.assert_array_equal, forward(parameters, images()), micro(images()))
    none = jax.tree.map(np.zeros_like, parameters)
    assert not forward(none, images()).mask_logits.any()


def test_without_kernels(micro):
    fused = nnx.merge(*nnx.split(micro))
    fused.set_attributes(fused=True)
    plain = without_kernels(fused)
    for model, kernels in ((fused, True), (plain, False), (micro, False)):
        attentions = [block.attention for stage in model.backbone.stages for block in stage.blocks]
        assert [x.fused for x in attentions] == [kernels] * len(attentions)
    ours, theirs = (nnx.as_pure(nnx.split(model)[1]) for model in (fused, plain))
    assert all(map(lambda x, y: x is y, jax.tree.leaves(ours), jax.tree.leaves(theirs)))


# --- Numbers -------------------------------------------------------------------------------------


def precisions(equations, model):
    jaxpr = jax.make_jaxpr(lambda x: model(x))(images())
    products = [e for e in equations(jaxpr) if "precision" in e.params]
    assert len(products) > 50
    return {e.params["precision"] for e in products}


def test_float32_means_float32_unless_told_otherwise(equations, micro):
    highest = jax.lax.Precision.HIGHEST
    assert precisions(equations, micro) == {(highest, highest)}
    with jax.default_matmul_precision("bfloat16"):
        assert precisions(equations, micro) == {(jax.lax.Precision.DEFAULT,) * 2}


@pytest.fixture(scope="module")
def in_bfloat16(micro, tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    micro.save_pretrained(folder)
    return Mask2Former.from_pretrained(folder, "bfloat16")


def test_bfloat16_is_as_float32_but_for_rounding(micro, tmp_path, run):
    """Queries look everywhere: rounding may turn a pixel of the mask that a layer looks through."""
    decoder = dataclasses.replace(micro.config.decoder, masked=False)
    config = dataclasses.replace(micro.config, decoder=decoder)
    Mask2Former(config, rngs=nnx.Rngs(0)).save_pretrained(tmp_path)
    ours, theirs = (
        run(Mask2Former.from_pretrained(tmp_path, dtype), images())
        for dtype in ("bfloat16", "float32")
    )
    for x, y in zip(ours, theirs, strict=True):
        assert x.dtype == jnp.float32
        assert 1e-4 < abs(x - y).mean() / abs(y).mean() < 0.02


def test_bfloat16_products_are_fast_and_places_exact(equations, in_bfloat16):
    assert (jax.lax.Precision.HIGHEST,) * 2 not in precisions(equations, in_bfloat16)
    parameters = jax.tree_util.tree_leaves_with_path(in_bfloat16)
    for path, parameter in parameters:
        name = jax.tree_util.keystr(path)
        where = "sampling_offsets" in name or "attention_weights" in name
        assert parameter.dtype == (jnp.float32 if where else jnp.bfloat16), name


# --- Config --------------------------------------------------------------------------------------


def test_config_survives_a_file(micro, tmp_path):
    micro.config.save(tmp_path / "config.json")
    assert Mask2FormerConfig.load(tmp_path / "config.json") == micro.config
    assert hash(micro.config) == hash(Mask2FormerConfig.from_dict(micro.config.to_dict()))


def test_ablations_survive_json(micro):
    fpn = FPNPixelDecoderConfig(dim=32, mask_dim=8)
    plain = dataclasses.replace(micro.config.decoder, masked=False)
    config = dataclasses.replace(micro.config, pixel_decoder=fpn, decoder=plain)
    assert Mask2FormerConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("early", "meant"),
    [
        ({}, PixelDecoderConfig()),
        ({"mask_dim": 256}, PixelDecoderConfig()),
        ({"dim": 256, "mask_dim": 256}, PixelDecoderConfig()),
        ({"conv_dim": 64, "mask_dim": 8}, FPNPixelDecoderConfig(dim=64, mask_dim=8)),
        ({"conv_dim": 64}, FPNPixelDecoderConfig(dim=64)),
    ],
)
def test_files_from_before_parts_had_types_are_read(early, meant):
    config = PRESETS["swin-tiny-cityscapes-instance"].config
    config = dataclasses.replace(
        config, decoder=dataclasses.replace(config.decoder, dim=meant.dim), pixel_decoder=meant
    )
    values = config.to_dict() | {"pixel_decoder": early}
    for part in ("backbone", "decoder"):
        del values[part]["type"]
    assert Mask2FormerConfig.from_dict(values) == config


def test_parts_say_their_types(micro):
    values = micro.config.to_dict()
    types = [values[part]["type"] for part in ("backbone", "pixel_decoder", "decoder")]
    assert types == ["swin", "deformable", "masked_attention"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"backbone": {"window": 7}}, r"Mask2FormerConfig\.backbone has no field window"),
        ({"backbone": {"depths": [2, 2, "6", 2]}}, r"\.backbone\.depths\[2\] has the value '6'"),
        ({"backbone": {"depths": [2, 2, 6]}}, "need 4 entries, one per stage.*got 3 and 4"),
        ({"backbone": {"embed_dim": 100}}, "3 heads don't divide a width of 100"),
        ({"backbone": 7}, r"\.backbone needs an object, not 7"),
        ({"backbone": {"type": "vit"}}, r"\.backbone has the type 'vit'; known: swin, resnet"),
        ({"pixel_decoder": {"type": ["fpn"]}}, r"type \['fpn'\]; known: deformable, fpn"),
        ({"pixel_decoder": {"type": "fpn", "conv_dim": 64}}, "has no field conv_dim"),
        ({"pixel_decoder": {"conv_dim": 64, "num_layers": 2}}, "has no field conv_dim"),
        ({"pixel_decoder": {"conv_dim": 0}}, "FPNPixelDecoderConfig: dim must be"),
        ({"decoder": {"masked": 1}}, r"\.decoder\.masked has the value 1"),
        ({"decoder": {"num_queries": True}}, r"\.decoder\.num_queries has the value True"),
        ({"decoder": {"dim": 128}}, "pixel_decoder.dim and decoder.dim must be equal.*256, 128"),
        ({"labels": []}, "labels is empty"),
        ({"labels": [{"id": 1, "name": "a"}]}, r"\.labels\[0\] lacks the field is_thing"),
        ({"labels": None}, r"\.labels needs a list, not None"),
    ],
)
def test_bad_configs_are_refused_by_field(change, message):
    values = json.loads(json.dumps(PRESETS["swin-tiny-cityscapes-instance"].config.to_dict()))
    with pytest.raises(ValueError, match=message):
        Mask2FormerConfig.from_dict(values | change)


def test_unknown_tasks_are_refused(micro):
    with pytest.raises((ValueError, TypeError), match="'detection'"):  # types are checked in tests
        Mask2FormerConfig.from_dict(micro.config.to_dict() | {"task": "detection"})


def test_missing_fields_and_broken_files_are_refused(tmp_path):
    with pytest.raises(ValueError, match="Mask2FormerConfig lacks the field labels, task"):
        Mask2FormerConfig.from_dict({})
    path = tmp_path / "config.json"
    for text in ("{", "\xff"):
        path.write_bytes(text.encode("latin-1"))
        with pytest.raises(ValueError, match=r"config\.json is not valid JSON"):
            Mask2FormerConfig.load(path)
