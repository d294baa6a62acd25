"""A model to train from scratch."""

import jax.numpy as jnp
from flax import nnx

from m2f_jax.config import ModelConfig
from m2f_jax.modeling.kinds import class_of
from m2f_jax.modeling.model import Model


def initialize(config: ModelConfig, seed: int = 0, dtype: str | jnp.dtype = "float32") -> Model:
    """Returns a model with fresh float32 parameters that computes in `dtype`."""
    return class_of(config)(config, dtype=dtype, rngs=nnx.Rngs(seed))
