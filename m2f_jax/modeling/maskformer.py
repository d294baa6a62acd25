"""MaskFormer (Cheng et al., NeurIPS 2021), the model that Mask2Former is measured against."""

from typing import ClassVar

from m2f_jax.config import MaskFormerConfig, ModelConfig
from m2f_jax.modeling.model import Model


class MaskFormer(Model):
    """The network from images to a class and a mask for every query, which reads one coarse map.

    With `all_layers`, it returns one prediction per layer of the decoder, and none of the queries
    before the first.
    """

    config_class: ClassVar[type[ModelConfig]] = MaskFormerConfig
