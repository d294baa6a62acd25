"""A part of somebody else's: registered, trained, saved and loaded without a change of ours."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from m2f_jax.convert import convert, open_checkpoint
from m2f_jax.convert.files.formats import StoredTensor
from m2f_jax.convert.tables import parts
from m2f_jax.convert.tables.huggingface import tensors as huggingface
from m2f_jax.convert.tables.origins import HuggingFaceBackbone, HuggingFacePart, PartTables
from m2f_jax.convert.tables.rules import CONVOLUTION, Table, expand, linear, load, save, tensor

import m2f_jax
from m2f_jax import Mask2Former, Mask2FormerConfig, config, plain
from m2f_jax.modeling.model import training_network
from m2f_jax.modeling.parameters import abstract_model, parameter_shapes, parameters
from m2f_jax.training import TrainState, initialize, train_step
from tests.conftest import MICRO
from tests.toys import (
    TOYS,
    Averaging,
    AveragingConfig,
    LateralConfig,
    Pooling,
    PoolingConfig,
    tables_restored,
)
from tests.training.test_step import make_batch, make_config


@pytest.fixture
def untouched_tables():
    with tables_restored():
        yield


@pytest.mark.parametrize("part", TOYS)
def test_a_part_fits_between_ours(part, toys):
    model_config = dataclasses.replace(MICRO, **{part: toys[part]})
    values = json.loads(json.dumps(model_config.to_dict()))
    assert values[part]["type"] == "toy"
    assert Mask2FormerConfig.from_dict(values) == model_config

    def every_layer(model, images, key):
        return training_network(model, images, drop_key=key, remat=True)

    images, key = jax.ShapeDtypeStruct((2, 40, 50, 3), jnp.float32), jax.random.key(0)
    layers = jax.eval_shape(every_layer, abstract_model(model_config), images, key)
    assert layers.class_logits.shape == (2, 2, 5, 3)
    assert layers.per_pixel.shape == (2, 10, 13, 8)


@pytest.fixture
def tables(monkeypatch):
    """The names of the toys' tensors at Hugging Face."""
    backbone = HuggingFaceBackbone(
        "toy",
        lambda values, _: PoolingConfig(width=values["width"]),
        lambda cfg: {"model_type": "toy", "width": cfg.width},
    )
    stages = linear("encoder.stages.{}.conv", "stages.{}", CONVOLUTION)
    heads = *linear("class_predictor", "class_head"), *linear("mask_predictor", "mask_head")
    for place, cfg, part in (
        (parts.BACKBONES, PoolingConfig, HuggingFacePart(Table(stages), backbone)),
        (parts.PIXEL_DECODERS, LateralConfig, HuggingFacePart(Table(linear("{}.fc", "layers.{}")))),
        (
            parts.DECODERS,
            AveragingConfig,
            HuggingFacePart(Table((*tensor("queries.weight", "queries"), *heads))),
        ),
    ):
        monkeypatch.setitem(place, cfg, PartTables(huggingface=part))


@pytest.mark.usefixtures("tables")
def test_parts_train_save_load_and_convert(toys, tmp_path):
    model_config = dataclasses.replace(MICRO, **toys)
    model = initialize(model_config)
    before = {name: np.asarray(x[...]) for name, x in parameters(model).items()}
    state, key = TrainState.of(model, make_config(model_config, remat=True)), jax.random.key(0)
    for _ in range(2):
        state, metrics = train_step(state, make_batch(2), key)
        assert metrics.finite
    trained = state.model()
    ours = {name: np.asarray(x[...]) for name, x in parameters(trained).items()}
    changed = {name for name, x in ours.items() if (x != before[name]).any()}
    assert {name.split(".")[0] for name in changed} == set(TOYS)

    trained.save_pretrained(tmp_path)
    loaded = Mask2Former.from_pretrained(tmp_path)
    assert loaded.config == model_config
    for name, value in parameters(loaded).items():
        np.testing.assert_array_equal(value[...], ours[name])
    images = np.ones((1, 40, 50, 3), np.float32)
    assert loaded(images).mask_logits.shape == (1, 5, 10, 13)

    theirs, back, shapes = {}, {}, parameter_shapes(model_config)
    table = expand(huggingface.table_of(model_config).rules, shapes)
    for rule in table:
        theirs |= save(rule, {name: StoredTensor.of(x) for name, x in ours.items()})
    for rule in table:
        back |= load(rule, theirs, shapes)
    first = theirs["model.pixel_level_module.encoder.encoder.stages.0.conv.weight"].read()
    np.testing.assert_array_equal(first, ours["backbone.stages.0.kernel"].transpose(3, 2, 0, 1))
    assert back.keys() == ours.keys()
    for name, stored in back.items():
        np.testing.assert_array_equal(stored.read(), ours[name], strict=True)


@pytest.mark.usefixtures("tables")
def test_a_backbone_goes_to_hugging_faces_files_and_back(toys, tmp_path):
    """Their config has no place for other decoders."""
    pixel_decoder = dataclasses.replace(MICRO.pixel_decoder, num_points=4)
    changes = {"backbone": toys["backbone"], "pixel_decoder": pixel_decoder}
    model = initialize(dataclasses.replace(MICRO, **changes))
    model.save_pretrained(tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "theirs", "huggingface")
    written = json.loads((tmp_path / "theirs" / "config.json").read_text())
    assert written["backbone_config"] == {"model_type": "toy", "width": 8}
    back = open_checkpoint(tmp_path / "theirs", task="instance")
    assert back.config == model.config
    for name, value in parameters(model).items():
        np.testing.assert_array_equal(back.tensors[name].read(), value[...], strict=True)


@pytest.mark.usefixtures("untouched_tables")
def test_a_cell_that_runs_again_replaces_its_part():
    m2f_jax.register_backbone("toy", PoolingConfig, Pooling)
    m2f_jax.register_backbone("toy", PoolingConfig, Pooling)
    again = dataclasses.dataclass(frozen=True, kw_only=True)(
        type("PoolingConfig", (PoolingConfig,), {"__module__": PoolingConfig.__module__})
    )
    m2f_jax.register_backbone("toy", again, Pooling)
    assert config.BACKBONES["toy"] is again
    assert plain.type_of(PoolingConfig()) is None


@pytest.mark.usefixtures("untouched_tables")
def test_what_cant_be_a_part_is_refused():
    class Thawed:
        pass

    with pytest.raises(TypeError, match=r"Thawed must be a dataclass with frozen=True"):
        m2f_jax.register_decoder("toy", Thawed, Averaging)
    with pytest.raises(ValueError, match=r"'swin' already stands for SwinConfig"):
        m2f_jax.register_backbone("swin", PoolingConfig, Pooling)
    m2f_jax.register_backbone("toy", PoolingConfig, Pooling)
    with pytest.raises(ValueError, match="already registered under another name"):
        m2f_jax.register_backbone("other", PoolingConfig, Pooling)


def test_a_part_nobody_registered_is_refused():
    model_config = dataclasses.replace(MICRO, backbone=PoolingConfig())
    with pytest.raises(ValueError, match="no module is registered for PoolingConfig"):
        Mask2Former(model_config, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="PoolingConfig isn't registered"):
        model_config.to_dict()
