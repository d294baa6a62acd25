"""AdamW as the authors set it up: groups of parameters, schedule and clipping.

Detectron2's `build_optimizer` in the authors' train_net.py, with PyTorch's AdamW.
"""

import functools
import re
from typing import Any

import jax
import optax

from m2f_jax.training.config import OptimizerConfig, TrainConfig

# Detectron2's WEIGHT_DECAY_NORM and WEIGHT_DECAY_EMBED are 0, and Swin's bias tables never decay.
# Biases do decay, and so does the pixel decoder's level embedding, a bare parameter there.
UNDECAYED = re.compile(
    r"(.*\.)?(output_)?norms?\d?(\.\d+)?\.(scale|bias)"
    r"|decoder\.(queries|query_positions|level_embeddings)"
    r"|.*\.relative_position_bias"
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


def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """The optimizer of a training, over `nnx.as_pure` of a model's state."""
    return _make_optimizer(config.optimizer, config.steps)


@functools.lru_cache(maxsize=8)
def _make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=decays),
        optax.masked(optax.scale(config.backbone_multiplier), in_backbone),
        optax.scale_by_learning_rate(learning_rates(config, steps)),
    )
