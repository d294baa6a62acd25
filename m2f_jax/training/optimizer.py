"""AdamW as the authors set it up: groups of parameters, schedule and clipping.

Detectron2's `build_optimizer` in the authors' train_net.py, with PyTorch's AdamW.
"""

import functools
import re
from dataclasses import dataclass
from typing import Any

import jax
import optax

# Detectron2's WEIGHT_DECAY_NORM and WEIGHT_DECAY_EMBED are 0, and Swin's bias tables never decay.
# Biases do decay, and so does the pixel decoder's level embedding, a bare parameter there.
UNDECAYED = re.compile(
    r"(.*\.)?(output_)?norms?\d?(\.\d+)?\.(scale|bias)"
    r"|decoder\.(queries|query_positions|level_embeddings)"
    r"|.*\.relative_position_bias"
)


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW's settings; the defaults are those of all published models on Cityscapes and ADE20K.

    Attributes:
        learning_rate: at the first step, of everything but the backbone.
        backbone_multiplier: the backbone's learning rate in units of it.
        weight_decay: of what decays: not norms, embeddings of the decoder and bias tables.
        clip_norm: the greatest norm of the gradient of all parameters together.
        power: the learning rate falls as (1 - step / steps) ** power.
        milestones: if there are any, it falls to a tenth at each of these parts of the training
            instead, as in the recipes for COCO.
        warmup_steps: over so many steps it rises from 0.
    """

    learning_rate: float = 1e-4
    backbone_multiplier: float = 0.1
    weight_decay: float = 0.05
    clip_norm: float = 0.01
    power: float = 0.9
    milestones: tuple[float, ...] = ()
    warmup_steps: int = 0

    def __post_init__(self):
        for name in ("learning_rate", "clip_norm"):
            if getattr(self, name) <= 0:
                raise ValueError(
                    f"OptimizerConfig: {name} must be above 0, not {getattr(self, name)}"
                )
        if any(not 0 < part < 1 for part in self.milestones):
            raise ValueError(
                "OptimizerConfig: milestones are parts of the training between 0 and 1, not "
                f"{self.milestones}"
            )


def learning_rates(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """The learning rate by step, of a training of so many steps."""
    if config.milestones:
        drops = {round(part * steps): 0.1 for part in config.milestones}
        schedule = optax.piecewise_constant_schedule(config.learning_rate, drops)
    else:
        schedule = optax.polynomial_schedule(config.learning_rate, 0.0, config.power, steps)
    if not config.warmup_steps:
        return schedule
    rise = optax.linear_schedule(0.0, 1.0, config.warmup_steps)
    return lambda step: rise(step) * schedule(step)


def name_of(path: tuple[Any, ...]) -> str:
    """A parameter's dotted name from its path in the tree of parameters."""
    return ".".join(str(getattr(key, "key", key)) for key in path)


def decays(parameters: Any) -> Any:
    """For each parameter whether it decays."""
    return jax.tree.map_with_path(
        lambda path, _: UNDECAYED.fullmatch(name_of(path)) is None, parameters
    )


def in_backbone(parameters: Any) -> Any:
    """For each parameter whether it belongs to the backbone."""
    return jax.tree.map_with_path(lambda path, _: name_of(path).startswith("backbone."), parameters)


@functools.lru_cache(maxsize=8)
def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer of a training of so many steps, over `nnx.as_pure` of a model's state."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.masked(optax.scale(config.backbone_multiplier), in_backbone),
        optax.scale_by_learning_rate(learning_rates(config, steps)),
    )
