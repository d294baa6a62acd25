"""MaskFormer (Cheng et al., NeurIPS 2021), the model that Mask2Former is measured against."""

from typing import ClassVar

from m2f_jax.config import MaskFormerConfig, ModelConfig
from m2f_jax.modeling.model import Model


class MaskFormer(Model):
    """Images to the class and mask of every query, which look at all of one coarse map.

    With `all_layers`, there is one prediction per layer of the decoder, and none of the queries
    before it.
    """

    config_class: ClassVar[type[ModelConfig]] = MaskFormerConfig
