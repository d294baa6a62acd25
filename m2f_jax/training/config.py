"""A training as data: the model, the data's changes, the losses and the optimizer."""

from dataclasses import dataclass, field
from typing import Literal

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.training.losses import LossConfig
from m2f_jax.training.optimizer import OptimizerConfig


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained.

    Attributes:
        model: what is trained.
        steps: the length of the training; the learning rate's schedule ends there.
        loss: weights and numbers of points.
        optimizer: AdamW and its schedule.
        dtype: of the computation; parameters, sampling coordinates and losses are float32.
        average_decay: each step, a moving average of the parameters keeps this much of itself, and
            is what the training results in; 0 for none.
        accumulate: a batch is gone through in so many parts, one after another.
        remat: compute the inner values of Swin's blocks and of the pixel decoder's layers again for
            the gradient, instead of keeping them: slower, and takes much less memory.
    """

    model: Mask2FormerConfig
    steps: int
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"
    average_decay: float = 0.0
    accumulate: int = 1
    remat: bool = False

    def __post_init__(self):
        for name in ("steps", "accumulate"):
            if getattr(self, name) < 1:
                raise ValueError(f"TrainConfig: {name} is at least 1, not {getattr(self, name)}")
        if not 0 <= self.average_decay < 1:
            raise ValueError(
                f"TrainConfig: average_decay is from 0 to below 1, not {self.average_decay}"
            )
