"""Which class implements which kind of model."""

from m2f_jax.config import (
    Mask2FormerConfig,
    MaskFormerConfig,
    ModelConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.maskformer import MaskFormer
from m2f_jax.modeling.model import Model
from m2f_jax.modeling.video_mask2former import VideoMask2Former

KINDS: dict[type[ModelConfig], type[Model]] = {
    Mask2FormerConfig: Mask2Former,
    MaskFormerConfig: MaskFormer,
    VideoMask2FormerConfig: VideoMask2Former,
}


def class_of(config: ModelConfig) -> type[Model]:
    """Returns the class of the model with this config.

    Raises:
        ValueError: there is none for configs of this class.
    """
    if type(config) not in KINDS:
        known = ", ".join(kind.__name__ for kind in KINDS)
        raise ValueError(f"no model has a {type(config).__name__}; known: {known}")
    return KINDS[type(config)]
