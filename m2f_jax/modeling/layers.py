"""Layers that several stages use."""

import functools
import itertools
from collections.abc import Callable, Sequence

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from m2f_jax.modeling.initializers import (
    Initializer,
    ones,
    torch_default,
    torch_default_bias,
    xavier,
    xavier_of_three,
    zeros,
)
from m2f_jax.ops import convolutions, products
from m2f_jax.ops.attention import dot_product_attention
from m2f_jax.ops.dropout import dropout

Linear = functools.partial(nnx.Linear, dot_general=products.dot_general)
Conv = functools.partial(nnx.Conv, conv_general_dilated=convolutions.conv_general_dilated)

GROUPS = 32  # of channels, for GroupNorm
UNDECAYED = {"decay": False}  # metadata of parameters without weight decay
EXACT = {"exact": True}  # metadata of parameters that stay in float32 in every model
FROZEN = {**UNDECAYED, "frozen": True}  # metadata of parameters that aren't trained at all


def gelu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns the exact GELU (with erf, not tanh), computed in float32."""
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return (0.5 * wide * (1 + jax.lax.erf(wide * np.sqrt(0.5).astype(wide.dtype)))).astype(x.dtype)


def relu(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns max(x, 0); on a CPU, as a selection instead of a maximum.

    XLA on a CPU would merge a maximum with the matrix products around it, which slows them down.
    """
    return jax.lax.platform_dependent(x, default=jax.nn.relu, cpu=lambda x: jnp.where(x <= 0, 0, x))


def layer_norm(dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.LayerNorm:
    """Returns a LayerNorm like PyTorch's: epsilon 1e-5, two-pass variance, float32 statistics."""
    return nnx.LayerNorm(
        dim,
        epsilon=1e-5,
        use_fast_variance=False,
        scale_init=ones,
        bias_init=zeros,
        scale_metadata=UNDECAYED,
        bias_metadata=UNDECAYED,
        dtype=dtype,
        rngs=rngs,
    )


class GroupNorm(nnx.Module):
    """GroupNorm with the authors' 32 groups and epsilon 1e-5; statistics in float32 at least.

    Each channel is summed over the map first. `nnx.GroupNorm` sums over a group's few channels
    first, which is slow on a CPU.

    Raises:
        ValueError: the groups don't share the channels evenly.
    """

    def __init__(self, dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        if dim % GROUPS:
            raise ValueError(f"GroupNorm: {dim} channels don't make {GROUPS} groups")
        self.dtype = dtype
        self.scale = nnx.Param(ones(rngs.params(), (dim,)), **UNDECAYED)
        self.bias = nnx.Param(zeros(rngs.params(), (dim,)), **UNDECAYED)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        x = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        x = x - mean_of_groups(x)
        factor = jax.lax.rsqrt(mean_of_groups(x**2) + 1e-5) * self.scale[...]
        return (x * factor + self.bias[...]).astype(self.dtype)


def mean_of_groups(x: Float[Array, "B H W C"]) -> Float[Array, "B 1 1 C"]:
    """Returns the mean of each group, repeated for each of its channels."""
    means = x.mean(axis=(1, 2), keepdims=True)
    of_groups = einops.reduce(means, "b h w (group c) -> b h w group", "mean", group=GROUPS)
    return jnp.repeat(of_groups, x.shape[-1] // GROUPS, axis=-1)


def folded(key: jax.Array | None, number: int) -> jax.Array | None:
    """Returns the key of use `number` of several; None if `key` is, and nothing is drawn."""
    return None if key is None else jax.random.fold_in(key, number)


class MLP(nnx.Module):
    """Linear layers of the widths `dims`, with an activation between them.

    By default, weights and biases are initialised as PyTorch does. Where a call gets a `drop_key`,
    dropout of `drop_rate` follows each activation.

    The backward pass recomputes activations from their arguments, which saves memory.
    """

    def __init__(
        self,
        dims: Sequence[int],
        *,
        activation: Callable[[Array], Array],
        kernel_init: Initializer = torch_default,
        bias_init: Initializer | None = None,
        drop_rate: float = 0.0,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.activation = activation
        self.drop_rate = drop_rate
        self.layers = nnx.List(
            Linear(
                source,
                target,
                kernel_init=kernel_init,
                bias_init=bias_init or torch_default_bias(source),
                dtype=dtype,
                rngs=rngs,
            )
            for source, target in itertools.pairwise(dims)
        )

    def __call__(
        self, x: Float[Array, "*batch source"], *, drop_key: jax.Array | None = None
    ) -> Float[Array, "*batch target"]:
        batch = x.shape[:-1]
        # With a single axis of tokens, XLA on a CPU activates them in place.
        x = self.layers[0](x.reshape(-1, x.shape[-1]))
        for i, layer in enumerate(self.layers[1:]):
            x = jax.checkpoint(functools.partial(self._activate, layer))(x, folded(drop_key, i))
        return x.reshape(*batch, -1)

    def _activate(
        self, layer: nnx.Linear, x: Float[Array, "*batch source"], drop_key: jax.Array | None
    ) -> Float[Array, "*batch target"]:
        return layer(dropout(self.activation(x), self.drop_rate, drop_key))


def feed_forward(
    dim: int, hidden: int, *, drop_rate: float = 0.0, dtype: jnp.dtype, rngs: nnx.Rngs
) -> MLP:
    """Returns the MLP of both decoders' layers: one hidden layer, ReLU, Xavier's initialisation.

    Args:
        dim: the width of input and output.
        hidden: the width between.
        drop_rate: as of `MLP`.
        dtype: of the computation.
        rngs: for the initial values.
    """
    dims = dim, hidden, dim
    return MLP(
        dims, activation=relu, kernel_init=xavier, drop_rate=drop_rate, dtype=dtype, rngs=rngs
    )


class Attention(nnx.Module):
    """Multi-head attention with separate projections of queries, keys and values.

    Where a call gets a `drop_key`, dropout of `drop_rate` acts on the attention's weights.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        *,
        drop_rate: float = 0.0,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.num_heads = num_heads
        self.drop_rate = drop_rate
        linear = functools.partial(Linear, bias_init=zeros, dtype=dtype, rngs=rngs)
        self.query = linear(dim, dim, kernel_init=xavier_of_three)
        self.key = linear(dim, dim, kernel_init=xavier_of_three)
        self.value = linear(dim, dim, kernel_init=xavier_of_three)
        self.output = linear(dim, dim, kernel_init=xavier)

    def __call__(
        self,
        queries: Float[Array, "B Q C"],
        keys: Float[Array, "B N C"],
        values: Float[Array, "B N C"],
        mask: Bool[Array, "B Q N"] | None = None,
        *,
        drop_key: jax.Array | None = None,
    ) -> Float[Array, "B Q C"]:
        """Returns what each query reads; `mask` is True where it may look."""
        x = dot_product_attention(
            split_heads(self.query(queries), self.num_heads),
            split_heads(self.key(keys), self.num_heads),
            split_heads(self.value(values), self.num_heads),
            mask,
            self.drop_rate,
            drop_key,
        )
        return self.output(jax.lax.collapse(x, 2, 4))


def split_heads(x: Float[Array, "B N C"], num_heads: int) -> Float[Array, "B H N D"]:
    """Splits channels into heads."""
    return einops.rearrange(x, "b n (h d) -> b h n d", h=num_heads)


def sine_positions(size: tuple[int, int], dim: int) -> Float[np.ndarray, "{size[0]*size[1]} {dim}"]:
    """Returns the position embedding of every pixel: `dim / 2` channels of y, then as many of x.

    The authors' PositionEmbeddingSine with normalize=True: coordinates from 1 to n are scaled to
    2 pi; even channels hold sines, odd ones cosines.
    """
    channels = dim // 2
    height, width = size
    y = np.broadcast_to(sine_code(height, channels)[:, None], (height, width, channels))
    x = np.broadcast_to(sine_code(width, channels)[None, :], (height, width, channels))
    return np.concatenate([y, x], axis=-1).reshape(-1, dim).astype(np.float32)


def sine_code(n: int, channels: int) -> Float[np.ndarray, "n channels"]:
    """Returns the sine code of each of `n` places along an axis, in float64."""
    frequency = 10000.0 ** (2 * (np.arange(channels) // 2) / channels)
    angle = np.arange(1, n + 1) / (n + 1e-6) * 2 * np.pi
    angle = angle[:, None] / frequency
    return np.where(np.arange(channels) % 2 == 0, np.sin(angle), np.cos(angle))
