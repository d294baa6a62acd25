"""Parts of a model as somebody else would write them, each the least that fits between ours.

They also stand for a model where any would do: their training step compiles in a fraction of the
time that ours takes.
"""

import contextlib
import dataclasses
import itertools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
from flax import nnx

import m2f_jax
from m2f_jax import FeaturePyramid, Predictions, config
from m2f_jax.modeling import parts
from m2f_jax.structures import LayerPredictions

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

    def __call__(self, features, *, drop_key=None, remat=False):  # noqa: ARG002 - needs neither
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

    def every_layer(self, pyramid, *, drop_key=None):  # noqa: ARG002 - it has no dropout
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


@contextlib.contextmanager
def registered() -> Iterator[dict[str, object]]:
    """Gives a config of each kind of part, which are registered within."""
    with tables_restored():
        for register, config_class, module in TOYS.values():
            register("toy", config_class, module)
        yield {part: config_class() for part, (_, config_class, _) in TOYS.items()}


@contextlib.contextmanager
def tables_restored() -> Iterator[None]:
    """Takes back whatever is registered within."""
    tables = [*config.TABLES.values(), parts.MODULES]
    before = [dict(table) for table in tables]
    try:
        yield
    finally:
        for table, entries in zip(tables, before, strict=True):
            table.clear()
            table.update(entries)
