"""AdamW against PyTorch's, with the authors' groups, clipping and schedules."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from m2f_jax.config import FPNPixelDecoderConfig
from m2f_jax.modeling.layers import GroupNorm
from m2f_jax.modeling.parameters import abstract_model, parameters
from m2f_jax.presets import PRESETS, preset
from m2f_jax.training.config import OptimizerConfig
from m2f_jax.training.optimizer import Groups, adamw, learning_rates

PRESETS_BY_SIZE = {  # one of each backbone
    x.config.backbone: name for name, x in PRESETS.items() if x.architecture == "mask2former"
}
BUILT = [*PRESETS_BY_SIZE.values(), "maskformer-resnet50-coco"]
# Detectron2's rule by the names that our parameters have.
UNDECAYED = re.compile(
    r"(.*\.)?(output_)?norms?\d?(\.\d+)?\.(scale|bias)"
    r"|backbone\.(stem|res\d)\..*\.norm\.(mean|variance)"  # of a ResNet
    r"|decoder\.(queries|query_positions|level_embeddings)"
    r"|.*\.relative_position_bias"
)


def names(tree):
    """The names of the parameters for which a tree of booleans is True."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {".".join(str(key.key) for key in path) for path, value in leaves if value}


def with_fpn():
    config = preset("swin-tiny-cityscapes-instance").config
    return dataclasses.replace(config, pixel_decoder=FPNPixelDecoderConfig())


@pytest.mark.parametrize(
    "config",
    [*(PRESETS[name].config for name in BUILT), with_fpn()],
    ids=[*BUILT, "FPN"],
)
def test_groups_are_detectron2s(config):
    model = abstract_model(config)
    groups = Groups.of(model)
    everything = set(parameters(model))
    assert names(groups.decayed) == {x for x in everything if not UNDECAYED.fullmatch(x)}
    assert names(groups.backbone) == {x for x in everything if x.startswith("backbone.")}
    structure = jax.tree.structure(nnx.as_pure(nnx.state(model)))
    assert [jax.tree.structure(group) for group in groups] == [structure] * 2


def test_norms_embeddings_and_bias_tables_do_not_decay():
    model = abstract_model(preset("swin-tiny-cityscapes-instance").config)
    norms = {
        ".".join(map(str, (*path, leaf)))
        for path, module in nnx.iter_modules(model)
        if isinstance(module, nnx.LayerNorm | GroupNorm)
        for leaf in ("scale", "bias")
    }
    everything = set(parameters(model))
    tables = {name for name in everything if name.endswith("relative_position_bias")}
    embeddings = {f"decoder.{x}" for x in ("queries", "query_positions", "level_embeddings")}
    assert len(norms) == 154
    assert len(tables) == 12
    decayed = names(Groups.of(model).decayed)
    assert everything - decayed == norms | tables | embeddings
    assert "pixel_decoder.level_embeddings" in decayed


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
    rates = learning_rates(OptimizerConfig(warmup_steps=4, warmup_start=0.2, power=0.0), 100)
    assert [float(rates(step)) for step in (0, 1, 4, 9)] == pytest.approx(
        [0.2e-4, 0.4e-4, 1e-4, 1e-4]
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
    reference = torch.optim.AdamW(groups)
    rate = lambda step: (1 - step / steps) ** 0.9  # noqa: E731
    schedule = torch.optim.lr_scheduler.LambdaLR(reference, rate)
    groups = Groups(
        decayed={
            "backbone": {"qkv": {"kernel": True}, "norm1": {"scale": False}},
            "decoder": {"queries": False, "heads": {"bias": True}},
        },
        backbone={
            "backbone": {"qkv": {"kernel": True}, "norm1": {"scale": True}},
            "decoder": {"queries": False, "heads": {"bias": False}},
        },
    )
    optimizer = adamw(config, steps, groups)
    state = optimizer.init(ours)
    update = jax.jit(optimizer.update)
    for _ in range(steps - 1):
        gradients = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), ours)
        for parameter, gradient in zip(
            jax.tree.leaves(theirs), jax.tree.leaves(gradients), strict=True
        ):
            parameter.grad = torch.tensor(gradient)
        torch.nn.utils.clip_grad_norm_(jax.tree.leaves(theirs), config.clip_norm)
        reference.step()
        schedule.step()
        change, state = update(gradients, state, ours)
        ours = jax.tree.map(jnp.add, ours, change)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(a, b.detach().numpy(), rtol=1e-5, atol=1e-6)
