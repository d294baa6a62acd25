"""The Transformer decoder: queries read the pyramid through their own masks (Sec. 3.2.1).

Of a clip, the queries are the same in all frames and look at all of them at once (Cheng et al.,
arXiv:2112.10764). Nothing but the keys' positions tells frames apart, so they are laid below one
another and read like one tall image.

Axes: L predictions, B images or clips, T frames of a clip, Q queries, C width, E mask embedding
width, K classes and "no object", N pixels of the level that a layer looks at, in all frames.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float

from m2f_jax.config import AnyDecoderConfig, TransformerDecoderConfig
from m2f_jax.modeling.initializers import normal, torch_default, torch_default_bias
from m2f_jax.modeling.layers import (
    MLP,
    UNDECAYED,
    Attention,
    feed_forward,
    layer_norm,
    relu,
    sine_code,
    sine_positions,
)
from m2f_jax.ops.resize import resize_bilinear
from m2f_jax.structures import FeaturePyramid, LayerPredictions, Predictions

NUM_LEVELS = 3


def mask_logits(
    mask_embeddings: Float[Array, "*L B Q E"], per_pixel: Float[Array, "*#L B H W E"]
) -> Float[Array, "*L B Q H W"]:
    """The product of each query's embedding with each pixel's, in float32 (Sec. 3.1)."""
    wide = jnp.promote_types(per_pixel.dtype, jnp.float32)
    logits = jnp.einsum(
        "...qe,...ne->...qn",
        mask_embeddings,
        jax.lax.collapse(per_pixel, -3, -1),
        preferred_element_type=wide,
    )
    return logits.reshape(*logits.shape[:-1], *per_pixel.shape[-3:-1])


def tall(maps: Float[Array, "B *T H W C"]) -> Float[Array, "B rows W C"]:
    """Lays a clip's frames below one another; images stay as they are."""
    return jax.lax.collapse(maps, 1, maps.ndim - 2)


def frame_logits(
    mask_embeddings: Float[Array, "*L B Q E"], per_pixel: Float[Array, "B *T H W E"]
) -> Float[Array, "..."]:
    """The same for images, or for each frame of clips."""
    logits = mask_logits(mask_embeddings, tall(per_pixel))
    return logits.reshape(*logits.shape[:-2], *per_pixel.shape[1:-1])


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
    """The position embedding of every pixel of a level, frame after frame.

    A frame's code has the full width and is added to that of the place; frames count from 1 and
    the last one is at 2 pi, so it depends on their number. As an array, all of it would be a part
    of the compiled program: 240 MB for 36 frames of 480 x 854.

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
    """Where each query may look next: inside its own mask, or anywhere if that is empty (Eq. 3)."""
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


class PredictionHeads(nnx.Module):
    """Reads class logits and mask embeddings off the queries; all layers share it."""

    def __init__(
        self,
        cfg: AnyDecoderConfig,
        num_classes: int,
        mask_dim: int,
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.norm = layer_norm(cfg.dim, dtype=dtype, rngs=rngs)
        self.class_head = nnx.Linear(
            cfg.dim,
            num_classes + 1,
            kernel_init=torch_default,
            bias_init=torch_default_bias(cfg.dim),
            dtype=dtype,
            rngs=rngs,
        )
        self.mask_head = MLP(
            (cfg.dim, cfg.dim, cfg.dim, mask_dim), activation=relu, dtype=dtype, rngs=rngs
        )

    def __call__(
        self, queries: Float[Array, "*L B Q C"]
    ) -> tuple[Float[Array, "*L B Q K"], Float[Array, "*L B Q E"]]:
        """Class logits in float32 and mask embeddings, of the queries of any number of layers."""
        queries = self.norm(queries)
        class_logits = self.class_head(queries)
        wide = jnp.promote_types(class_logits.dtype, jnp.float32)
        return class_logits.astype(wide), self.mask_head(queries)


class TransformerDecoder(nnx.Module):
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

    def __call__(
        self, pyramid: FeaturePyramid, *, all_layers: bool = False
    ) -> Predictions | tuple[Predictions, ...]:
        """The last layer's predictions, or those of the learned queries and of every layer."""
        if all_layers:
            layers = self.every_layer(pyramid)
            masks = frame_logits(layers.mask_embeddings, pyramid.per_pixel)
            return tuple(map(Predictions, layers.class_logits, masks))
        class_logits, mask_embeddings = self.heads(self.refined_queries(pyramid)[-1])
        return Predictions(class_logits, frame_logits(mask_embeddings, pyramid.per_pixel))

    def every_layer(
        self,
        pyramid: FeaturePyramid,
        *,
        drop_key: jax.Array | None = None,  # noqa: ARG002 - it has no dropout
    ) -> LayerPredictions:
        """The predictions of the learned queries and of every layer, all made at once."""
        class_logits, mask_embeddings = self.heads(jnp.stack(self.refined_queries(pyramid)))
        return LayerPredictions(class_logits, mask_embeddings, pyramid.per_pixel)

    def refined_queries(self, pyramid: FeaturePyramid) -> list[Float[Array, "B Q C"]]:
        """The learned queries, and what each layer makes of them.

        A layer's attention mask is predicted at the resolution that the layer looks at. Resizing is
        linear, so the per-pixel embeddings are resized once per level instead of every prediction
        that is made with them.
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
