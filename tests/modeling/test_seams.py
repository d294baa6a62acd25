"""A part of somebody else's: registered, trained, saved and loaded without a change of ours."""

import dataclasses
import itertools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import m2f_jax
from m2f_jax import FeaturePyramid, Mask2Former, Mask2FormerConfig, Predictions, config
from m2f_jax.modeling import parts
from m2f_jax.modeling.mask2former import training_network
from m2f_jax.modeling.parameters import abstract_model, parameters
from m2f_jax.structures import LayerPredictions
from m2f_jax.training import TrainState, initialize, train_step
from tests.conftest import MICRO
from tests.training.test_step import make_batch, make_config


@pytest.fixture(autouse=True)
def _tables():
    """What a test registers is gone after it."""
    tables = [*config.TABLES.values(), parts.MODULES]
    before = [dict(table) for table in tables]
    yield
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)


# --- A backbone ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class PoolingConfig:
    """Convolutions between which maps are halved."""

    width: int = 8
    drop_rate: float = 0.1

    @property
    def channels(self) -> tuple[int, ...]:
        return tuple(self.width * n for n in (1, 2, 3, 4))


class Pooling(nnx.Module):
    def __init__(self, cfg, *, dtype, rngs):
        self.drop_rate = cfg.drop_rate
        widths = (3, *cfg.channels)
        self.stages = nnx.List(
            nnx.Conv(source, target, (3, 3), strides=4 if i == 0 else 2, dtype=dtype, rngs=rngs)
            for i, (source, target) in enumerate(itertools.pairwise(widths))
        )

    def __call__(self, images, *, drop_key=None, remat=False):
        maps, x = [], images
        for stage in self.stages:
            x = jax.nn.relu((jax.checkpoint(stage) if remat else stage)(x))
            maps.append(x)
        if drop_key is not None:
            kept = jax.random.bernoulli(drop_key, 1 - self.drop_rate, (len(images), 1, 1, 1))
            maps[-1] = maps[-1] * kept
        return tuple(maps)


# --- A pixel decoder -----------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class LateralConfig:
    """One product per level, without any exchange between levels."""

    dim: int = 32
    mask_dim: int = 8


class Lateral(nnx.Module):
    def __init__(self, cfg, in_channels, *, dtype, rngs):
        widths = (cfg.mask_dim, cfg.dim, cfg.dim, cfg.dim)
        self.layers = nnx.List(
            nnx.Linear(source, target, dtype=dtype, rngs=rngs)
            for source, target in zip(in_channels, widths, strict=True)
        )

    def __call__(self, features, *, remat=False):  # noqa: ARG002 - nothing is worth it
        per_pixel, *finer_first = (layer(x) for layer, x in zip(self.layers, features, strict=True))
        return FeaturePyramid(tuple(reversed(finer_first)), per_pixel)


# --- A Transformer decoder -----------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class AveragingConfig:
    """Queries that all add the mean of the coarsest level, in place of attention."""

    dim: int = 32
    num_queries: int = 5


class Averaging(nnx.Module):
    def __init__(self, cfg, num_classes, mask_dim, *, dtype, rngs):
        normal = nnx.initializers.normal(1.0)
        self.queries = nnx.Param(normal(rngs.params(), (cfg.num_queries, cfg.dim)))
        self.class_head = nnx.Linear(cfg.dim, num_classes + 1, dtype=dtype, rngs=rngs)
        self.mask_head = nnx.Linear(cfg.dim, mask_dim, dtype=dtype, rngs=rngs)

    def every_layer(self, pyramid):
        read = pyramid.features[0].mean(axis=(1, 2))[:, None]
        first = jnp.broadcast_to(self.queries[...], (len(read), *self.queries.shape))
        queries = jnp.stack([first, first + read])
        return LayerPredictions(
            self.class_head(queries), self.mask_head(queries), pyramid.per_pixel
        )

    def __call__(self, pyramid, *, all_layers=False):
        layers = self.every_layer(pyramid)
        masks = jnp.einsum("lbqe,bhwe->lbqhw", layers.mask_embeddings, layers.per_pixel)
        every = tuple(map(Predictions, layers.class_logits, masks))
        return every if all_layers else every[-1]


# --- All of them ---------------------------------------------------------------------------------

TOYS = {
    "backbone": (m2f_jax.register_backbone, PoolingConfig, Pooling),
    "pixel_decoder": (m2f_jax.register_pixel_decoder, LateralConfig, Lateral),
    "decoder": (m2f_jax.register_decoder, AveragingConfig, Averaging),
}


@pytest.fixture
def toys():
    """A config of each kind of part, all registered."""
    for register, config_class, module in TOYS.values():
        register("toy", config_class, module)
    return {part: config_class() for part, (_, config_class, _) in TOYS.items()}


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


def test_parts_train_save_and_load(toys, tmp_path):
    model_config = dataclasses.replace(MICRO, **toys)
    model = initialize(model_config)
    before = {name: np.asarray(x[...]) for name, x in parameters(model).items()}
    state, key = TrainState.of(model, make_config(model_config, remat=True)), jax.random.key(0)
    for _ in range(2):
        state, metrics = train_step(state, make_batch(2), key)
        assert metrics.finite
    trained = state.model()
    changed = {name for name, x in parameters(trained).items() if (x[...] != before[name]).any()}
    assert {name.split(".")[0] for name in changed} == set(TOYS)

    trained.save_pretrained(tmp_path)
    loaded = Mask2Former.from_pretrained(tmp_path)
    assert loaded.config == model_config
    for name, value in parameters(loaded).items():
        np.testing.assert_array_equal(value[...], parameters(trained)[name][...])
    images = np.ones((1, 40, 50, 3), np.float32)
    assert loaded(images).mask_logits.shape == (1, 5, 10, 13)


def test_a_cell_that_runs_again_replaces_its_part():
    m2f_jax.register_backbone("toy", PoolingConfig, Pooling)
    m2f_jax.register_backbone("toy", PoolingConfig, Pooling)
    again = dataclasses.dataclass(frozen=True, kw_only=True)(
        type("PoolingConfig", (PoolingConfig,), {"__module__": __name__})
    )
    m2f_jax.register_backbone("toy", again, Pooling)
    assert config.BACKBONES["toy"] is again
    assert config.type_of(PoolingConfig()) is None


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
