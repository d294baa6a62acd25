"""MaskFormer's pixel decoder: an FPN for the masks, and one coarse map for the queries.

The authors' `BasePixelDecoder`; with encoder layers, their `TransformerEncoderPixelDecoder`, whose
layers are DETR's (Carion et al., ECCV 2020).

Axes: B images, N pixels of the coarse map, C width, E mask embedding width.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import FPNPixelDecoderConfig, MaskFormerPixelDecoderConfig
from m2f_jax.modeling.initializers import caffe, zeros
from m2f_jax.modeling.layers import (
    Attention,
    Linear,
    dropout,
    feed_forward,
    folded,
    layer_norm,
    sine_positions,
)
from m2f_jax.modeling.pixel_decoders.fpn import FPNPixelDecoder
from m2f_jax.structures import FeaturePyramid


class EncoderLayer(nnx.Module):
    """Self-attention of all pixels, then an MLP; each normalised after its sum."""

    def __init__(self, cfg: MaskFormerPixelDecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.drop_rate = cfg.dropout
        self.attention = Attention(
            cfg.dim, cfg.num_heads, drop_rate=cfg.dropout, dtype=dtype, rngs=rngs
        )
        self.norm1 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)
        self.mlp = feed_forward(cfg.dim, cfg.ffn_dim, drop_rate=cfg.dropout, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B N C"],
        positions: Float[Array, "N C"],
        *,
        drop_key: jax.Array | None = None,
    ) -> Float[Array, "B N C"]:
        placed = x + positions
        read = self.attention(placed, placed, x, drop_key=folded(drop_key, 0))
        x = self.norm1(x + dropout(read, self.drop_rate, folded(drop_key, 1)))
        y = self.mlp(x, drop_key=folded(drop_key, 2))
        return self.norm2(x + dropout(y, self.drop_rate, folded(drop_key, 3)))


class MaskFormerPixelDecoder(nnx.Module):
    """A projection of stride 32, refined by encoder layers if there are any, and an FPN.

    The FPN starts from the encoder layers' output, or else from the backbone's coarsest map.
    """

    def __init__(
        self,
        cfg: MaskFormerPixelDecoderConfig,
        in_channels: Sequence[int],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        *finer, res5 = in_channels
        self.input_projection = Linear(
            res5, cfg.dim, kernel_init=caffe, bias_init=zeros, dtype=dtype, rngs=rngs
        )
        self.layers = nnx.List(
            EncoderLayer(cfg, dtype=dtype, rngs=rngs) for _ in range(cfg.encoder_layers)
        )
        self.fpn = FPNPixelDecoder(
            FPNPixelDecoderConfig(dim=cfg.fpn_dim, mask_dim=cfg.mask_dim),
            (*finer, cfg.dim if cfg.encoder_layers else res5),
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self,
        features: Sequence[Float[Array, "B _ _ _"]],
        *,
        drop_key: jax.Array | None = None,
        remat: bool = False,
    ) -> FeaturePyramid:
        """Computes a pyramid of one map, of stride 32, from maps at strides 4, 8, 16, 32."""
        *finer, res5 = features
        memory = self.input_projection(res5)
        if self.layers:
            x = jax.lax.collapse(memory, 1, 3)
            positions = jnp.asarray(
                sine_positions((memory.shape[1], memory.shape[2]), memory.shape[3]), x.dtype
            )
            for i, layer in enumerate(self.layers):
                run = functools.partial(layer, drop_key=folded(drop_key, i))
                x = (jax.checkpoint(run) if remat else run)(x, positions)
            memory = res5 = x.reshape(memory.shape)
        return FeaturePyramid((memory,), self.fpn((*finer, res5), remat=remat).per_pixel)
