"""Dropout (Srivastava et al., JMLR 2014)."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


def dropout(
    x: Float[Array, "*shape"], rate: jax.typing.ArrayLike, key: jax.Array | None
) -> Float[Array, "*shape"]:
    """Sets entries to 0 with probability `rate` and divides the others by 1 - rate.

    Without a key, returns `x` unchanged.
    """
    if key is None:
        return x
    kept = jax.random.bernoulli(key, 1 - rate, x.shape)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)
