"""Mask2Former (Cheng et al., CVPR 2022)."""

from typing import ClassVar

from m2f_jax.config import Mask2FormerConfig, ModelConfig
from m2f_jax.modeling.model import Model


class Mask2Former(Model):
    """Images to the class and mask of every query, with masked attention."""

    config_class: ClassVar[type[ModelConfig]] = Mask2FormerConfig
