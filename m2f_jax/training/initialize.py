"""A model to train from scratch."""

import jax.numpy as jnp
from flax import nnx

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.modeling.mask2former import Mask2Former


def initialize(
    config: Mask2FormerConfig, seed: int = 0, dtype: str | jnp.dtype = "float32"
) -> Mask2Former:
    """Returns a model with fresh float32 parameters that computes in `dtype`."""
    return Mask2Former(config, dtype=dtype, rngs=nnx.Rngs(seed))
