"""The settings of a training run: the model, the losses and the optimizer."""

from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from m2f_jax.bounds import POSITIVE, Between, check_bounds
from m2f_jax.config import MaskFormerConfig, ModelConfig, SwinConfig
from m2f_jax.presets import preset


@dataclass(frozen=True, kw_only=True)
class ExtraTerm:
    """A term that you added to `losses.TERMS`, and its weight; with 0 it is only logged."""

    name: str
    weight: Annotated[float, Between(0)]

    def __post_init__(self):
        check_bounds(self, f"ExtraTerm {self.name}: ")


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """The points and weights of the losses and of the matching; the defaults are Mask2Former's.

    Without a number of points, whole masks are compared, and the two ratios have no meaning.
    `pixels` says at which pixels: at those of the predictions, at stride 4, to which targets are
    shrunk; or, as in MaskFormer, at those of the images, to which predictions are resized. In the
    second case, matching still takes the predictions' pixels, and the targets' nearest ones.

    Raises:
        ValueError: a number is out of range, two terms have one name, or there are points and
            images' pixels.
    """

    class_weight: Annotated[float, POSITIVE] = 2.0
    mask_weight: Annotated[float, POSITIVE] = 5.0
    dice_weight: Annotated[float, POSITIVE] = 5.0
    no_object_weight: Annotated[float, POSITIVE] = 0.1  # of the class loss of "no object"
    # Points per matching and per mask; None for whole masks.
    num_points: Annotated[int | None, Between(1, 10_000_000)] = 12544
    oversample_ratio: Annotated[float, POSITIVE] = 3.0  # candidates per point
    # Points that are the most uncertain candidates.
    importance_sample_ratio: Annotated[float, POSITIVE] = 0.75
    pixels: Literal["predictions", "images"] = "predictions"  # of whole masks
    mask_term: Literal["mask", "focal"] = "mask"  # the term that mask_weight weighs
    extra_terms: tuple[ExtraTerm, ...] = ()  # of the loss, beside class, mask and dice

    def __post_init__(self):
        check_bounds(self)
        if self.importance_sample_ratio > min(1, self.oversample_ratio):
            raise ValueError(
                f"LossConfig: importance_sample_ratio {self.importance_sample_ratio} must be at "
                f"most 1 and at most oversample_ratio, {self.oversample_ratio}"
            )
        if self.num_points is not None and self.pixels == "images":
            raise ValueError(
                f"LossConfig: num_points is {self.num_points}, but pixels of images are whole "
                "masks; leave pixels, or set num_points to None (null in JSON)"
            )
        if len(self.weights) < 3 + len(self.extra_terms):
            names = ", ".join(term.name for term in self.extra_terms)
            raise ValueError(
                f"LossConfig: extra_terms has {names}; each has its own name, and none is class, "
                f"{self.mask_term} or dice, whose weights are fields"
            )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each term of the loss, by the name in `losses.TERMS`."""
        published = {
            "class": self.class_weight,
            self.mask_term: self.mask_weight,
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
    """AdamW's settings; the defaults are those of Mask2Former on Cityscapes and ADE20K.

    Attributes:
        learning_rate: the rate at the first step, of everything but the backbone.
        backbone_multiplier: factor of the learning rate for the backbone.
        weight_decay: the decay of all parameters but norms, the decoder's embeddings and bias
            tables.
        clip_norm: the L2 norm to which the gradient of all parameters together is clipped.
        power: the learning rate falls as (1 - step / steps) ** power.
        milestones: fractions of the training run at which the learning rate falls to a tenth, as in
            the recipes for COCO; if there are any, `power` isn't used.
        warmup_steps: the learning rate rises linearly over so many steps.
        warmup_start: the fraction of the learning rate at which the warm-up begins.

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
    warmup_start: Annotated[float, Between(0, 1)] = 0.0

    def __post_init__(self):
        check_bounds(self)
        if any(not 0 < part < 1 for part in self.milestones):
            raise ValueError(
                "OptimizerConfig: milestones are parts of the training between 0 and 1, not "
                f"{self.milestones}"
            )


def loss_of(model: ModelConfig) -> LossConfig:
    """Returns the loss by which the authors train models of this kind."""
    if isinstance(model, MaskFormerConfig):
        return LossConfig(
            class_weight=1.0,
            mask_weight=20.0,
            dice_weight=1.0,
            num_points=None,
            pixels="images",
            mask_term="focal",
        )
    return LossConfig()


def optimizer_of(model: ModelConfig) -> OptimizerConfig:
    """Returns the settings of AdamW by which the authors train models of this kind."""
    if not isinstance(model, MaskFormerConfig):
        return OptimizerConfig()
    if isinstance(model.backbone, SwinConfig):
        return OptimizerConfig(
            learning_rate=6e-5,
            backbone_multiplier=1.0,
            weight_decay=0.01,
            warmup_steps=1500,
            warmup_start=1e-6,
        )
    return OptimizerConfig(weight_decay=1e-4)


OF_THE_MODEL: Any = None  # stands for a default until the model is known


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained; the defaults are those of Swin-L for instances of Cityscapes.

    Attributes:
        model: the architecture and its classes.
        steps: the number of steps; the learning rate's schedule ends there.
        loss: weights and numbers of points; by default `loss_of` the model.
        optimizer: AdamW and its schedule; by default `optimizer_of` the model.
        dtype: what is computed in; parameters, sampling coordinates and losses are float32.
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
    loss: LossConfig = OF_THE_MODEL
    optimizer: OptimizerConfig = OF_THE_MODEL
    dtype: Literal["float32", "bfloat16"] = "float32"
    average_decay: Annotated[float, Between(0, 1 - 1e-9)] = 0.0
    accumulate: Annotated[int, Between(1, 4096)] = 1
    remat: bool = False

    def __post_init__(self):
        check_bounds(self)
        for name, of in (("loss", loss_of), ("optimizer", optimizer_of)):
            if getattr(self, name) is OF_THE_MODEL:
                object.__setattr__(self, name, of(self.model))
