"""Classes and masks from queries: what Transformer decoders share.

Axes: L predictions, B images, Q queries, C width, E mask embedding width, K classes and
"no object".
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import AnyDecoderConfig
from m2f_jax.modeling.initializers import torch_default, torch_default_bias
from m2f_jax.modeling.layers import MLP, Linear, layer_norm, relu
from m2f_jax.structures import FeaturePyramid, LayerPredictions, Predictions


def mask_logits(
    mask_embeddings: Float[Array, "*L B Q E"], per_pixel: Float[Array, "*#L B H W E"]
) -> Float[Array, "*L B Q H W"]:
    """Returns the product of each query's embedding with each pixel's, in float32 (Sec. 3.1)."""
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
    """Returns the mask logits of images, or those of each frame of clips."""
    logits = mask_logits(mask_embeddings, tall(per_pixel))
    return logits.reshape(*logits.shape[:-2], *per_pixel.shape[1:-1])


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
        self.class_head = Linear(
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
        """Returns class logits, in float32, and mask embeddings of one or more layers' queries."""
        queries = self.norm(queries)
        class_logits = self.class_head(queries)
        wide = jnp.promote_types(class_logits.dtype, jnp.float32)
        return class_logits.astype(wide), self.mask_head(queries)


class QueryDecoder(nnx.Module):
    """The base class of decoders, which differ in how they refine their queries."""

    heads: PredictionHeads

    def __call__(
        self, pyramid: FeaturePyramid, *, all_layers: bool = False
    ) -> Predictions | tuple[Predictions, ...]:
        """Returns the last layer's predictions, or with `all_layers` those of every layer."""
        if all_layers:
            layers = self.every_layer(pyramid)
            masks = frame_logits(layers.mask_embeddings, pyramid.per_pixel)
            return tuple(map(Predictions, layers.class_logits, masks))
        class_logits, mask_embeddings = self.heads(self.refined_queries(pyramid)[-1])
        return Predictions(class_logits, frame_logits(mask_embeddings, pyramid.per_pixel))

    def every_layer(
        self, pyramid: FeaturePyramid, *, drop_key: jax.Array | None = None
    ) -> LayerPredictions:
        """Returns the predictions of every layer, for the losses."""
        queries = jnp.stack(self.refined_queries(pyramid, drop_key=drop_key))
        class_logits, mask_embeddings = self.heads(queries)
        return LayerPredictions(class_logits, mask_embeddings, pyramid.per_pixel)

    def refined_queries(
        self, pyramid: FeaturePyramid, *, drop_key: jax.Array | None = None
    ) -> list[Float[Array, "B Q C"]]:
        """Returns the queries that each prediction is made of; with a `drop_key`, under dropout."""
        raise NotImplementedError
