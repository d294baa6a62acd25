"""AdamW as the authors set it up: groups of parameters, schedule and clipping.

It equals `build_optimizer` in the authors' train_net.py with PyTorch's AdamW. Norms, embeddings
(WEIGHT_DECAY_NORM and WEIGHT_DECAY_EMBED are 0) and Swin's bias tables don't decay. Biases do.
"""

import functools
from typing import Any, NamedTuple

import jax
import optax
from flax import nnx

from m2f_jax.modeling.model import Model
from m2f_jax.modeling.parameters import abstract_model
from m2f_jax.training.config import OptimizerConfig, TrainConfig


def learning_rates(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Returns the learning rate by step, for a training run of so many steps."""
    if config.milestones:
        drops = {round(part * steps): 0.1 for part in config.milestones}
        schedule = optax.piecewise_constant_schedule(config.learning_rate, drops)
    else:
        schedule = optax.polynomial_schedule(config.learning_rate, 0.0, config.power, steps)
    if not config.warmup_steps:
        return schedule
    rise = optax.linear_schedule(config.warmup_start, 1.0, config.warmup_steps)
    return lambda step: rise(step) * schedule(step)


class Groups(NamedTuple):
    """Which parameters an optimizer treats apart, as trees of booleans like the parameters.

    Attributes:
        decayed: those on which weight decay acts.
        backbone: those that have the backbone's learning rate.
    """

    decayed: Any
    backbone: Any

    @classmethod
    def of(cls, model: Model) -> "Groups":
        """Returns a model's groups: a parameter decays unless its metadata has `decay=False`."""
        state = nnx.state(model)
        return cls(
            decayed=jax.tree.map(
                lambda x: x.get_metadata().get("decay", True),
                state,
                is_leaf=lambda x: isinstance(x, nnx.Variable),
            ),
            backbone=jax.tree.map_with_path(
                lambda path, _: path[0].key == "backbone", nnx.as_pure(state)
            ),
        )


@functools.lru_cache(maxsize=8)
def make_optimizer(config: TrainConfig) -> optax.GradientTransformation:
    """Returns the optimizer of a training run; it takes `nnx.as_pure` of the model's state."""
    groups = Groups.of(abstract_model(config.model))
    return adamw(config.optimizer, config.steps, groups)


def adamw(config: OptimizerConfig, steps: int, groups: Groups) -> optax.GradientTransformation:
    """Returns AdamW for parameters in these groups, with gradients clipped by their common norm."""
    return optax.chain(
        optax.clip_by_global_norm(config.clip_norm),
        optax.scale_by_adam(),
        optax.add_decayed_weights(config.weight_decay, mask=groups.decayed),
        optax.masked(optax.scale(config.backbone_multiplier), groups.backbone),
        optax.scale_by_learning_rate(learning_rates(config, steps)),
    )
