"""The Transformer decoder: queries read the pyramid through their own masks (Sec. 3.2.1).

The queries of a clip are shared by its frames and look at all of them at once (Cheng et al.,
arXiv:2112.10764). Only the keys' positions tell frames apart, so frames are laid below one another
and read like one tall image.

Axes: L predictions, B images or clips, T frames of a clip, Q queries, C width, E mask embedding
width, K classes and "no object", N pixels of the level that a layer looks at, in all frames.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from m2f_jax.config import TransformerDecoderConfig
from m2f_jax.modeling.initializers import normal
from m2f_jax.modeling.layers import (
    UNDECAYED,
    Attention,
    feed_forward,
    layer_norm,
    sine_code,
    sine_positions,
)
from m2f_jax.modeling.transformer_decoders.heads import (
    PredictionHeads,
    QueryDecoder,
    mask_logits,
    tall,
)
from m2f_jax.ops.resize import resize_bilinear
from m2f_jax.structures import FeaturePyramid

NUM_LEVELS = 3


def resize_frames(
    maps: Float[Array, "B *T H W C"], size: tuple[int, int]
) -> Float[Array, "B *T {size[0]} {size[1]} C"]:
    """Resizes images, or every frame of clips by itself."""
    *leading, height, width, channels = maps.shape
    resized = resize_bilinear(maps.reshape(-1, height, width, channels), size)
    return resized.reshape(*leading, *size, channels)


def key_positions(
    frames: tuple[int, ...], size: tuple[int, int], dim: int
) -> Float[Array, "N {dim}"]:
    """Returns the position embedding of every pixel of a level, frame after frame.

    A frame's code has the full width and is added to that of the place. Frames count from 1 and
    the last one is at 2 pi, so codes depend on their number. The sum is taken on the device: as a
    constant, it would make the compiled program large.

    Args:
        frames: (T,) of clips, () of images.
        size: height and width of the level.
        dim: width of the level.
    """
    places = jnp.asarray(sine_positions(size, dim))
    if not frames:
        return places
    [count] = frames
    times = jnp.asarray(sine_code(count, dim), jnp.float32)
    return jax.lax.collapse(times[:, None] + places, 0, 2)


def attention_mask(logits: Float[Array, "B Q H W"]) -> Bool[Array, "B Q H*W"]:
    """Returns where each query may look: inside its mask, or anywhere if that is empty (Eq. 3)."""
    mask = jax.lax.collapse(jax.lax.stop_gradient(logits) >= 0, 2, 4)
    return mask | ~mask.any(axis=-1, keepdims=True)


class TransformerDecoderLayer(nnx.Module):
    """Masked cross-attention, self-attention, MLP; each normalised after its sum (Fig. 2)."""

    def __init__(self, cfg: TransformerDecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.cross_attention = Attention(cfg.dim, cfg.num_heads, dtype=dtype, rngs=rngs)
        self.norm1 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)
        self.self_attention = Attention(cfg.dim, cfg.num_heads, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)
        self.mlp = feed_forward(cfg.dim, cfg.ffn_dim, dtype=dtype, rngs=rngs)
        self.norm3 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "B Q C"],
        query_positions: Float[Array, "Q C"],
        features: Float[Array, "B N C"],
        positions: Float[Array, "N C"],
        mask: Bool[Array, "B Q N"] | None,
    ) -> Float[Array, "B Q C"]:
        read = self.cross_attention(queries + query_positions, features + positions, features, mask)
        queries = self.norm1(queries + read)
        placed = queries + query_positions
        queries = self.norm2(queries + self.self_attention(placed, placed, queries))
        return self.norm3(queries + self.mlp(queries))


class TransformerDecoder(QueryDecoder):
    """Learned queries, refined by L layers that look at strides 32, 16 and 8 in turn."""

    def __init__(
        self,
        cfg: TransformerDecoderConfig,
        num_classes: int,
        mask_dim: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.masked = cfg.masked
        size = cfg.num_queries, cfg.dim
        self.queries = nnx.Param(normal(rngs.params(), size), **UNDECAYED)
        self.query_positions = nnx.Param(normal(rngs.params(), size), **UNDECAYED)
        self.level_embeddings = nnx.Param(normal(rngs.params(), (NUM_LEVELS, cfg.dim)), **UNDECAYED)
        self.layers = nnx.List(
            TransformerDecoderLayer(cfg, dtype=dtype, rngs=rngs) for _ in range(cfg.num_layers)
        )
        self.heads = PredictionHeads(cfg, num_classes, mask_dim, dtype=dtype, rngs=rngs)

    def refined_queries(
        self,
        pyramid: FeaturePyramid,
        *,
        drop_key: jax.Array | None = None,  # noqa: ARG002 - it has no dropout
    ) -> list[Float[Array, "B Q C"]]:
        """Returns the learned queries, and what each layer makes of them.

        A layer's attention mask is predicted at the resolution that the layer looks at. Resizing is
        linear, so the per-pixel embeddings are resized once per level, instead of the mask logits
        of every layer.
        """
        dtype = pyramid.per_pixel.dtype
        sizes = [(x.shape[-3], x.shape[-2]) for x in pyramid.features]
        per_pixel = [tall(resize_frames(pyramid.per_pixel, size)) for size in sizes]
        frames = pyramid.per_pixel.shape[1:-3]
        positions = [
            key_positions(frames, size, x.shape[-1]).astype(dtype)
            for size, x in zip(sizes, pyramid.features, strict=True)
        ]
        level_embeddings = self.level_embeddings[...].astype(dtype)
        features = [
            jax.lax.collapse(x, 1, x.ndim - 1) + embedding
            for x, embedding in zip(pyramid.features, level_embeddings, strict=True)
        ]

        query_positions = self.query_positions[...].astype(dtype)
        queries = jnp.broadcast_to(
            self.queries[...].astype(dtype), (pyramid.per_pixel.shape[0], *query_positions.shape)
        )
        every_layers_queries = [queries]
        for i, layer in enumerate(self.layers):
            level = i % NUM_LEVELS
            mask = None
            if self.masked:
                _, mask_embeddings = self.heads(queries)
                mask = attention_mask(mask_logits(mask_embeddings, per_pixel[level]))
            queries = layer(queries, query_positions, features[level], positions[level], mask)
            every_layers_queries.append(queries)
        return every_layers_queries
