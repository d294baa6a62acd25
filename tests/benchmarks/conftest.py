"""A model that compiles quickly, and processes of their own that are none."""

import dataclasses
import importlib

import ablations
import pytest
from measuring import streets

from m2f_jax import presets
from m2f_jax.cli import main
from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)
from m2f_jax.labels import numbered
from m2f_jax.training import LossConfig, TrainConfig

MICRO = Mask2FormerConfig(
    labels=numbered(2),
    task="instance",
    backbone=SwinConfig(
        embed_dim=4, depths=(1, 1, 1, 1), num_heads=(1, 1, 2, 2), window_size=3, mlp_ratio=1.0
    ),
    pixel_decoder=PixelDecoderConfig(dim=32, mask_dim=8, num_layers=1, num_heads=2, ffn_dim=8),
    decoder=TransformerDecoderConfig(dim=32, num_layers=1, num_heads=2, ffn_dim=8, num_queries=5),
)


@pytest.fixture
def micro(monkeypatch) -> str:
    """The name of a published model that is a far smaller one now."""
    name = "swin-tiny-coco-instance"
    published = dataclasses.replace(
        presets.PRESETS[name], config=MICRO, shortest_edge=32, longest_edge=64
    )
    monkeypatch.setitem(presets.PRESETS, name, published)
    return name


@pytest.fixture
def micro_config() -> Mask2FormerConfig:
    return MICRO


@pytest.fixture
def in_this_process(monkeypatch):
    """What scripts hand to processes of their own runs here, where everything is imported."""
    trainers = "training", "convergence", "peers.trainers.running"
    for name in ("inference", "ablations", "export", "first_call", *trainers):
        monkeypatch.setattr(
            importlib.import_module(name),
            "in_a_process",
            lambda function, *arguments, **_: function(*arguments),
        )


@pytest.fixture
def micro_streets(micro_config, monkeypatch):
    """The recipe of small models on streets is one of a far smaller one, all in this process."""
    labels = streets.STREETS.train.model.labels
    model = dataclasses.replace(micro_config, task="panoptic", labels=labels)
    train = TrainConfig(model=model, loss=LossConfig(num_points=32))
    monkeypatch.setattr(streets, "STREETS", dataclasses.replace(streets.STREETS, train=train))

    def m2f(*arguments, **_):
        assert main([str(x) for x in arguments]) == 0

    for module in (streets, ablations):
        monkeypatch.setattr(module, "m2f", m2f)
