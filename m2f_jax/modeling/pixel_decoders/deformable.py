"""The pixel decoder: backbone features to a pyramid and per-pixel embeddings (Sec. 3.2.2).

Axes: B images, S tokens of all levels, C width, E mask embedding width, L = 3 levels.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import PixelDecoderConfig
from m2f_jax.modeling.initializers import (
    Initializer,
    caffe,
    normal,
    sampling_directions,
    xavier,
    zeros,
)
from m2f_jax.modeling.layers import (
    EXACT,
    Conv,
    GroupNorm,
    Linear,
    feed_forward,
    layer_norm,
    sine_positions,
)
from m2f_jax.ops.ms_deform_attn import ms_deform_attn
from m2f_jax.ops.resize import resize_bilinear
from m2f_jax.sizes import Size
from m2f_jax.structures import FeaturePyramid

NUM_LEVELS = 3


def reference_points(sizes: Sequence[Size]) -> Float[np.ndarray, "S 2"]:
    """Returns every token's own place (x, y) in [0, 1]: the centre of its cell."""
    grids = [
        np.stack(np.meshgrid((np.arange(w) + 0.5) / w, (np.arange(h) + 0.5) / h), axis=-1)
        for h, w in sizes
    ]
    return np.concatenate([grid.reshape(-1, 2) for grid in grids]).astype(np.float32)


class MSDeformAttn(nnx.Module):
    """Attention that samples a few predicted points of every level (Deformable DETR, Eq. 3).

    Attributes:
        ms_deform_attn: the operator; exports for other runtimes replace it.
    """

    def __init__(self, cfg: PixelDecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.num_heads, self.num_points = cfg.num_heads, cfg.num_points
        self.ms_deform_attn = ms_deform_attn
        samples = cfg.num_heads * NUM_LEVELS * cfg.num_points
        # Offsets and weights stay in float32: bfloat16 coordinates miss by half a pixel.
        exact = functools.partial(
            nnx.Linear,
            kernel_init=zeros,
            kernel_metadata=EXACT,
            bias_metadata=EXACT,
            dtype=jnp.float32,
            rngs=rngs,
        )
        directions = sampling_directions(cfg.num_heads, NUM_LEVELS, cfg.num_points)
        self.sampling_offsets = exact(cfg.dim, 2 * samples, bias_init=directions)
        self.attention_weights = exact(cfg.dim, samples, bias_init=zeros)
        linear = functools.partial(
            Linear, kernel_init=xavier, bias_init=zeros, dtype=dtype, rngs=rngs
        )
        self.value = linear(cfg.dim, cfg.dim)
        self.output = linear(cfg.dim, cfg.dim)

    def __call__(
        self,
        queries: Float[Array, "B S C"],
        features: Float[Array, "B S C"],
        sizes: Sequence[Size],
    ) -> Float[Array, "B S C"]:
        batch, tokens, _ = queries.shape
        heads, points = self.num_heads, self.num_points
        # With a checkpoint, the gradient keeps the queries in their own dtype, and XLA doesn't sum
        # up the bias' gradient in the softmax's kernel, which is slow there (docs/performance.md).
        offsets, weights = jax.checkpoint(self.predict_samples)(queries)
        pixels = np.array([(width, height) for height, width in sizes], np.float32)
        pixels = np.tile(np.repeat(pixels, points, axis=0), (heads, 1))  # of every sample
        places = reference_points(sizes)[:, None]
        locations = places + offsets.reshape(batch, tokens, len(pixels), 2) / pixels
        locations = locations.reshape(batch, tokens, heads, NUM_LEVELS, points, 2)
        weights = jax.nn.softmax(weights.reshape(batch, tokens, heads, NUM_LEVELS * points))
        weights = weights.reshape(batch, tokens, heads, NUM_LEVELS, points)
        values = self.value(features).reshape(batch, tokens, heads, -1)
        return self.output(self.ms_deform_attn(values, sizes, locations, weights))

    def predict_samples(
        self, queries: Float[Array, "B S C"]
    ) -> tuple[Float[Array, "B S _"], Float[Array, "B S _"]]:
        """Predicts offsets of the samples in pixels and logits of their weights, in one product."""
        layers = self.sampling_offsets, self.attention_weights
        kernel = jnp.concatenate([layer.kernel[...] for layer in layers], axis=1)
        bias = jnp.concatenate(
            [
                layer.bias[...]  # pyright: ignore[reportOptionalSubscript] - it has one
                for layer in layers
            ]
        )
        samples = queries.astype(jnp.float32) @ kernel + bias
        offsets, weights = jnp.split(samples, [self.sampling_offsets.out_features], axis=-1)
        return offsets, weights


class PixelDecoderLayer(nnx.Module):
    """Deformable self-attention over all levels, then an MLP; each normalised after its sum."""

    def __init__(self, cfg: PixelDecoderConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.attention = MSDeformAttn(cfg, dtype=dtype, rngs=rngs)
        self.norm1 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)
        self.mlp = feed_forward(cfg.dim, cfg.ffn_dim, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        x: Float[Array, "B S C"],
        positions: Float[Array, "S C"],
        sizes: Sequence[Size],
    ) -> Float[Array, "B S C"]:
        x = self.norm1(x + self.attention(x + positions, x, sizes))
        return self.norm2(x + self.mlp(x))


class InputProjection(nnx.Module):
    """A 1 x 1 convolution and GroupNorm."""

    def __init__(
        self,
        source: int,
        target: int,
        *,
        use_bias: bool,
        kernel_init: Initializer,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.linear = Linear(
            source,
            target,
            use_bias=use_bias,
            kernel_init=kernel_init,
            bias_init=zeros,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = GroupNorm(target, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W source"]) -> Float[Array, "B H W target"]:
        return self.norm(self.linear(x))


class PixelDecoder(nnx.Module):
    """Deformable layers over strides 32, 16 and 8, then one FPN step to stride 4."""

    def __init__(
        self,
        cfg: PixelDecoderConfig,
        in_channels: Sequence[int],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        res2, *coarse = in_channels
        self.input_projections = nnx.List(
            InputProjection(
                channels, cfg.dim, use_bias=True, kernel_init=xavier, dtype=dtype, rngs=rngs
            )
            for channels in reversed(coarse)
        )
        # With weight decay, unlike the Transformer decoder's: the authors' is a bare parameter.
        self.level_embeddings = nnx.Param(normal(rngs.params(), (NUM_LEVELS, cfg.dim)))
        self.layers = nnx.List(
            PixelDecoderLayer(cfg, dtype=dtype, rngs=rngs) for _ in range(cfg.num_layers)
        )
        self.lateral = InputProjection(
            res2, cfg.dim, use_bias=False, kernel_init=caffe, dtype=dtype, rngs=rngs
        )
        self.output = Conv(
            cfg.dim,
            cfg.dim,
            (3, 3),
            padding=1,
            use_bias=False,
            kernel_init=caffe,
            dtype=dtype,
            rngs=rngs,
        )
        self.output_norm = GroupNorm(cfg.dim, dtype=dtype, rngs=rngs)
        self.mask_features = Linear(
            cfg.dim, cfg.mask_dim, kernel_init=caffe, bias_init=zeros, dtype=dtype, rngs=rngs
        )

    def __call__(
        self,
        features: Sequence[Float[Array, "B _ _ _"]],
        *,
        drop_key: jax.Array | None = None,  # noqa: ARG002 - it has no dropout
        remat: bool = False,
    ) -> FeaturePyramid:
        """Computes the pyramid from maps at strides 4, 8, 16, 32; `remat` as for the backbone."""
        res2, *coarse = features
        maps = [
            projection(x)
            for projection, x in zip(self.input_projections, reversed(coarse), strict=True)
        ]
        sizes = [(x.shape[1], x.shape[2]) for x in maps]
        x = jnp.concatenate([jax.lax.collapse(level, 1, 3) for level in maps], axis=1)
        level_embeddings = self.level_embeddings[...].astype(x.dtype)
        positions = jnp.concatenate(
            [
                sine_positions(size, x.shape[-1]).astype(x.dtype) + embedding
                for size, embedding in zip(sizes, level_embeddings, strict=True)
            ]
        )
        for layer in self.layers:
            run = functools.partial(layer, sizes=sizes)
            x = (jax.checkpoint(run) if remat else run)(x, positions)

        ends = np.cumsum([height * width for height, width in sizes])[:-1].tolist()
        pyramid = tuple(
            level.reshape(level.shape[0], *size, -1)
            for level, size in zip(jnp.split(x, ends, axis=1), sizes, strict=True)
        )
        y = self.lateral(res2)
        y = y + resize_bilinear(pyramid[-1], (y.shape[1], y.shape[2]))
        y = jax.nn.relu(self.output_norm(self.output(y)))
        return FeaturePyramid(pyramid, self.mask_features(y))
