"""MaskFormer's Transformer decoder, which is DETR's: queries look at all of one coarse map.

The authors' `TransformerPredictor`. Axes: L layers, B images, Q queries, C width, N pixels of the
map.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import MaskFormerDecoderConfig
from m2f_jax.modeling.initializers import normal
from m2f_jax.modeling.layers import (
    UNDECAYED,
    Attention,
    dropout,
    feed_forward,
    folded,
    layer_norm,
    sine_positions,
)
from m2f_jax.modeling.transformer_decoders.heads import PredictionHeads, QueryDecoder
from m2f_jax.structures import FeaturePyramid


class MaskFormerDecoderLayer(nnx.Module):
    """Self-attention, cross-attention, MLP; each normalised after its sum."""

    def __init__(self, cfg: MaskFormerDecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.drop_rate = cfg.dropout
        self.self_attention = Attention(
            cfg.dim, cfg.num_heads, drop_rate=cfg.dropout, dtype=dtype, rngs=rngs
        )
        self.norm1 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)
        self.cross_attention = Attention(
            cfg.dim, cfg.num_heads, drop_rate=cfg.dropout, dtype=dtype, rngs=rngs
        )
        self.norm2 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)
        self.mlp = feed_forward(cfg.dim, cfg.ffn_dim, drop_rate=cfg.dropout, dtype=dtype, rngs=rngs)
        self.norm3 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        queries: Float[Array, "B Q C"],
        query_positions: Float[Array, "Q C"],
        features: Float[Array, "B N C"],
        positions: Float[Array, "N C"],
        *,
        drop_key: jax.Array | None = None,
    ) -> Float[Array, "B Q C"]:
        placed = queries + query_positions
        read = self.self_attention(placed, placed, queries, drop_key=folded(drop_key, 0))
        queries = self.norm1(queries + dropout(read, self.drop_rate, folded(drop_key, 1)))
        read = self.cross_attention(
            queries + query_positions,
            features + positions,
            features,
            drop_key=folded(drop_key, 2),
        )
        queries = self.norm2(queries + dropout(read, self.drop_rate, folded(drop_key, 3)))
        y = self.mlp(queries, drop_key=folded(drop_key, 4))
        return self.norm3(queries + dropout(y, self.drop_rate, folded(drop_key, 5)))


class MaskFormerDecoder(QueryDecoder):
    """Queries of zeros, told apart by their positions alone, which L layers refine."""

    def __init__(
        self,
        cfg: MaskFormerDecoderConfig,
        num_classes: int,
        mask_dim: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        size = cfg.num_queries, cfg.dim
        self.query_positions = nnx.Param(normal(rngs.params(), size), **UNDECAYED)
        self.layers = nnx.List(
            MaskFormerDecoderLayer(cfg, dtype=dtype, rngs=rngs) for _ in range(cfg.num_layers)
        )
        self.heads = PredictionHeads(cfg, num_classes, mask_dim, dtype=dtype, rngs=rngs)

    def refined_queries(
        self, pyramid: FeaturePyramid, *, drop_key: jax.Array | None = None
    ) -> list[Float[Array, "B Q C"]]:
        """Returns what each layer makes of the queries, which read the first map of the pyramid."""
        memory = pyramid.features[0]
        batch, height, width, dim = memory.shape
        positions = jnp.asarray(sine_positions((height, width), dim), memory.dtype)
        query_positions = self.query_positions[...].astype(memory.dtype)
        queries = jnp.zeros((batch, *query_positions.shape), memory.dtype)
        features = jax.lax.collapse(memory, 1, 3)
        every_layers_queries = []
        for i, layer in enumerate(self.layers):
            queries = layer(
                queries, query_positions, features, positions, drop_key=folded(drop_key, i)
            )
            every_layers_queries.append(queries)
        return every_layers_queries
