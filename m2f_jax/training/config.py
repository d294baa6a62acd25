"""The settings of a training run: the model, the losses and the optimizer."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from m2f_jax.bounds import POSITIVE, Between, check_bounds
from m2f_jax.config import ModelConfig
from m2f_jax.presets import preset


@dataclass(frozen=True, kw_only=True)
class ExtraTerm:
    """A line that you added to `losses.TERMS`, and its weight; 0 only logs it."""

    name: str
    weight: Annotated[float, Between(0)]

    def __post_init__(self):
        check_bounds(self, f"ExtraTerm {self.name}: ")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Weights and numbers of points; the defaults are the authors', for all published models.

    Without a number of points, the losses and the matching take every pixel of the predicted masks,
    at stride 4, as in MaskFormer; the two ratios then have no meaning.

    Raises:
        ValueError: a number is out of range, or two terms have one name.
    """

    class_weight: Annotated[float, POSITIVE] = 2.0
    mask_weight: Annotated[float, POSITIVE] = 5.0
    dice_weight: Annotated[float, POSITIVE] = 5.0
    no_object_weight: Annotated[float, POSITIVE] = 0.1  # of the class loss where no object is
    # Points per matching and per mask; None for whole masks.
    num_points: Annotated[int | None, Between(1, 10_000_000)] = 12544
    oversample_ratio: Annotated[float, POSITIVE] = 3.0  # candidates per point
    # Points that are the most uncertain candidates.
    importance_sample_ratio: Annotated[float, POSITIVE] = 0.75
    extra_terms: tuple[ExtraTerm, ...] = ()  # of the loss, beside class, mask and dice

    def __post_init__(self):
        check_bounds(self)
        if self.importance_sample_ratio > min(1, self.oversample_ratio):
            raise ValueError(
                f"LossConfig: importance_sample_ratio {self.importance_sample_ratio} must be at "
                f"most 1 and at most oversample_ratio, {self.oversample_ratio}"
            )
        if len(self.weights) < 3 + len(self.extra_terms):
            names = ", ".join(term.name for term in self.extra_terms)
            raise ValueError(
                f"LossConfig: extra_terms has {names}; each has its own name, and none is class, "
                "mask or dice, whose weights are fields"
            )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term of the loss, by the name in `losses.TERMS`."""
        published = {
            "class": self.class_weight,
            "mask": self.mask_weight,
            "dice": self.dice_weight,
        }
        return published | {term.name: term.weight for term in self.extra_terms}

    @property
    def num_candidates(self) -> int:
        """Random points per mask, of which the most uncertain are kept; 0 for whole masks."""
        return int(self.oversample_ratio * (self.num_points or 0))

    @property
    def num_uncertain(self) -> int:
        """Points per mask that are the most uncertain candidates; the others are random."""
        return int(self.importance_sample_ratio * (self.num_points or 0))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW's settings; the defaults are those of all published models on Cityscapes and ADE20K.

    Attributes:
        learning_rate: at the first step, of everything but the backbone.
        backbone_multiplier: factor of the learning rate for the backbone.
        weight_decay: of all parameters but norms, the decoder's embeddings and bias tables.
        clip_norm: the L2 norm to which the gradient of all parameters together is clipped.
        power: the learning rate falls as (1 - step / steps) ** power.
        milestones: fractions of the training run at which the learning rate falls to a tenth, as in
            the recipes for COCO; if there are any, `power` isn't used.
        warmup_steps: the learning rate rises linearly from 0 over so many steps.

    Raises:
        ValueError: a number is out of range.
    """

    learning_rate: Annotated[float, POSITIVE] = 1e-4
    backbone_multiplier: Annotated[float, Between(0)] = 0.1
    weight_decay: Annotated[float, Between(0)] = 0.05
    clip_norm: Annotated[float, POSITIVE] = 0.01
    power: Annotated[float, Between(0)] = 0.9
    milestones: tuple[float, ...] = ()
    warmup_steps: Annotated[int, Between(0)] = 0

    def __post_init__(self):
        check_bounds(self)
        if any(not 0 < part < 1 for part in self.milestones):
            raise ValueError(
                "OptimizerConfig: milestones are parts of the training between 0 and 1, not "
                f"{self.milestones}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained; the defaults are those of Swin-L for instances of Cityscapes.

    Attributes:
        model: the architecture and its classes.
        steps: the number of steps; the learning rate's schedule ends there.
        loss: weights and numbers of points.
        optimizer: AdamW and its schedule.
        dtype: of the computation; parameters, sampling coordinates and losses are float32.
        average_decay: decay per step of a moving average of the parameters, which then is the
            trained model; 0 for none.
        accumulate: number of parts of a batch that are computed one after another.
        remat: whether to recompute activations inside the backbone's blocks and the pixel decoder's
            layers for the gradient, which takes less memory and more time.

    Raises:
        ValueError: a number is out of range.
    """

    model: ModelConfig = field(
        default_factory=lambda: preset("swin-large-cityscapes-instance").config
    )
    steps: Annotated[int, Between(1, 10**9)] = 90_000
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    dtype: Literal["float32", "bfloat16"] = "float32"
    average_decay: Annotated[float, Between(0, 1 - 1e-9)] = 0.0
    accumulate: Annotated[int, Between(1, 4096)] = 1
    remat: bool = False

    def __post_init__(self):
        check_bounds(self)
