"""Mask2Former (Cheng et al., CVPR 2022)."""

from typing import ClassVar

from m2f_jax.config import Mask2FormerConfig, ModelConfig
from m2f_jax.modeling.model import Model


class Mask2Former(Model):
    """The network from images to a class and a mask for every query, by masked attention."""

    config_class: ClassVar[type[ModelConfig]] = Mask2FormerConfig
