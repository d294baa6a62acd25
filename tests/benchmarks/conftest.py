"""A model that compiles quickly, and processes of their own that are none."""

import dataclasses
import importlib

import pytest

from m2f_jax import presets
from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)
from m2f_jax.labels import numbered

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
    for name in ("inference", "training", "ablations"):
        monkeypatch.setattr(
            importlib.import_module(name),
            "in_a_process",
            lambda function, *arguments, **_: function(*arguments),
        )
