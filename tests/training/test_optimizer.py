"""AdamW against PyTorch's, with the authors' groups, clipping and schedules."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import FPNPixelDecoderConfig
from m2f_jax.modeling.layers import GroupNorm
from m2f_jax.modeling.parameters import abstract_model
from m2f_jax.presets import preset
from m2f_jax.training.config import OptimizerConfig, TrainConfig
from m2f_jax.training.optimizer import (
    decays,
    in_backbone,
    learning_rates,
    make_optimizer,
    name_of,
)

NORMS = (nnx.LayerNorm, GroupNorm)


def names(tree):
    return {name_of(path) for path, value in jax.tree_util.tree_leaves_with_path(tree) if value}


def test_norms_embeddings_and_bias_tables_do_not_decay():
    model = abstract_model(preset("swin-tiny-cityscapes-instance").config)
    parameters = nnx.as_pure(nnx.state(model))
    everything = names(jax.tree.map(lambda _: True, parameters))
    norms = {
        ".".join(map(str, (*path, leaf)))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, NORMS)
        for leaf in ("scale", "bias")
    }
    tables = {name for name in everything if name.endswith("relative_position_bias")}
    embeddings = {f"decoder.{x}" for x in ("queries", "query_positions", "level_embeddings")}
    assert len(norms) == 154
    assert len(tables) == 12
    assert everything - names(decays(parameters)) == norms | tables | embeddings
    assert "pixel_decoder.level_embeddings" in names(decays(parameters))
    assert names(in_backbone(parameters)) == {x for x in everything if x.startswith("backbone.")}


def test_the_fpns_norms_do_not_decay():
    config = preset("swin-tiny-cityscapes-instance").config
    model = abstract_model(dataclasses.replace(config, pixel_decoder=FPNPixelDecoderConfig()))
    parameters = nnx.as_pure(nnx.state(model))
    fpn = {x for x in names(decays(parameters)) if x.startswith("pixel_decoder.")}
    convolutions = {f"steps.{i}.{x}.conv" for i in range(3) for x in ("lateral", "output")}
    kernels = {f"pixel_decoder.{x}.kernel" for x in (*convolutions, "top.conv", "mask_features")}
    assert fpn == kernels | {"pixel_decoder.mask_features.bias"}
    assert not names(in_backbone(parameters)) & fpn


def test_polynomial_schedule():
    rates = learning_rates(OptimizerConfig(), 90_000)
    for step in (0, 1, 45_000, 89_000):
        assert rates(step) == pytest.approx(1e-4 * (1 - step / 90_000) ** 0.9, rel=1e-5)


def test_drops_and_warm_up():
    config = OptimizerConfig(milestones=(0.5, 0.8), warmup_steps=10)
    rates = learning_rates(config, 100)
    assert [float(rates(step)) for step in (0, 5, 10, 49, 60, 90)] == pytest.approx(
        [0, 0.5e-4, 1e-4, 1e-4, 1e-5, 1e-6]
    )


@pytest.mark.parametrize(
    "values", [{"learning_rate": 0.0}, {"clip_norm": -1.0}, {"milestones": (1.5,)}]
)
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValueError, match=next(iter(values))):
        OptimizerConfig(**values)


@pytest.mark.torch
def test_equals_pytorch():
    import torch

    rng = np.random.default_rng(0)
    shapes = {
        "backbone": {"qkv": {"kernel": (5, 7)}, "norm1": {"scale": (7,)}},
        "decoder": {"queries": (4, 3), "heads": {"bias": (6,)}},
    }
    is_shape = lambda x: isinstance(x, tuple)  # noqa: E731
    ours = jax.tree.map(
        lambda shape: jnp.asarray(rng.normal(size=shape), jnp.float32), shapes, is_leaf=is_shape
    )
    steps, config = 20, OptimizerConfig(learning_rate=1e-2, clip_norm=0.5)
    theirs = jax.tree.map(lambda x: torch.nn.Parameter(torch.tensor(np.array(x))), ours)
    groups = [
        {"params": [theirs["backbone"]["qkv"]["kernel"]], "lr": 1e-3, "weight_decay": 0.05},
        {"params": [theirs["backbone"]["norm1"]["scale"]], "lr": 1e-3, "weight_decay": 0.0},
        {"params": [theirs["decoder"]["queries"]], "lr": 1e-2, "weight_decay": 0.0},
        {"params": [theirs["decoder"]["heads"]["bias"]], "lr": 1e-2, "weight_decay": 0.05},
    ]
    adamw = torch.optim.AdamW(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: (1 - step / steps) ** 0.9)
    optimizer = make_optimizer(TrainConfig(optimizer=config, steps=steps))
    state = optimizer.init(ours)
    update = jax.jit(optimizer.update)
    for _ in range(steps - 1):
        gradients = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), ours)
        for parameter, gradient in zip(
            jax.tree.leaves(theirs), jax.tree.leaves(gradients), strict=True
        ):
            parameter.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(jax.tree.leaves(theirs), config.clip_norm)
        adamw.step()
        schedule.step()
        change, state = update(gradients, state, ours)
        ours = jax.tree.map(jnp.add, ours, change)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-5, atol=1e-6)
