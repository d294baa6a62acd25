"""Softmax attention with a mask (Vaswani et al., NeurIPS 2017, Sec. 3.2), and its sums on a CPU."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from m2f_jax.ops.dropout import dropout


@jax.checkpoint
def dot_product_attention(
    queries: Float[Array, "B H Q D"],
    keys: Float[Array, "B H N D"],
    values: Float[Array, "B H N D"],
    mask: Bool[Array, "B Q N"] | None,
    drop_rate: jax.typing.ArrayLike = 0.0,
    drop_key: jax.Array | None = None,
) -> Float[Array, "B Q H D"]:
    """Computes softmax attention, with logits and softmax in float32 at least.

    The backward pass recomputes logits and softmax, which saves memory.

    Args:
        queries: of every head.
        keys: what queries are compared with.
        values: what is summed up.
        mask: True where a query may look, which must be somewhere; None for everywhere.
        drop_rate: of weights.
        drop_key: what is dropped; nothing is without it.
    """

    def sums(logits, values):
        weights = dropout(jax.nn.softmax(logits, axis=-1), drop_rate, drop_key)
        return jnp.einsum("bhqn,bhnd->bqhd", weights.astype(values.dtype), values)

    def sums_on_cpu(logits, values):
        return jnp.swapaxes(softmax_sums(logits, values), 1, 2)

    wide = jnp.promote_types(queries.dtype, jnp.float32)
    logits = jnp.einsum("bhqd,bhnd->bhqn", queries, keys, preferred_element_type=wide)
    logits = logits * queries.shape[-1] ** -0.5
    if mask is not None:
        logits = jnp.where(mask[:, None], logits, -jnp.inf)
    if drop_key is not None:
        return sums(logits, values)
    return jax.lax.platform_dependent(logits, values, default=sums, cpu=sums_on_cpu)


def softmax_sums(
    logits: Float[Array, "*batch Q N"], values: Float[Array, "*batch N D"]
) -> Float[Array, "*batch Q D"]:
    """Sums up values, weighted by the softmax of the logits, as it is fastest on a CPU.

    A CPU reads and writes weights almost as slowly as it multiplies. So the softmax's denominator
    divides the sums, of which there are far fewer, and weights aren't rounded.

    Args:
        logits: float32 or wider, in which everything is computed.
        values: the result has their dtype.
    """
    greatest = jax.lax.stop_gradient(logits.max(axis=-1, keepdims=True))
    weights = jnp.exp(logits - greatest)
    total = weights.sum(axis=-1, keepdims=True)
    return (weights @ values.astype(logits.dtype) / total).astype(values.dtype)
