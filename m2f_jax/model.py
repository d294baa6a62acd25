"""Mask2Former: backbone, pixel decoder and Transformer decoder, one after another (Fig. 2)."""

import functools
from typing import Literal, overload

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.pixel_decoder import PixelDecoder
from m2f_jax.structures import Predictions
from m2f_jax.swin import SwinTransformer
from m2f_jax.transformer_decoder import TransformerDecoder

MIN_SIZE = 32


class Mask2Former(nnx.Module):
    """Images to the class and mask of every query.

    Calling the model compiles it once per input shape. Parameters are read in the dtype that they
    have and computed with in `dtype`; sampling coordinates, softmax, statistics of norms and both
    outputs are float32 always. In float32, matrix products run at full precision unless
    `jax.default_matmul_precision` says otherwise ("tensorfloat32" is faster on a GPU).
    """

    def __init__(
        self, config: Mask2FormerConfig, *, dtype: str | jnp.dtype = "float32", rngs: nnx.Rngs
    ):
        self.config = config
        self.dtype = jnp.dtype(dtype)
        self.backbone = SwinTransformer(config.backbone, dtype=self.dtype, rngs=rngs)
        self.pixel_decoder = PixelDecoder(
            config.pixel_decoder, config.backbone.dims, dtype=self.dtype, rngs=rngs
        )
        self.decoder = TransformerDecoder(
            config.decoder,
            config.num_classes,
            config.pixel_decoder.mask_dim,
            dtype=self.dtype,
            rngs=rngs,
        )

    @overload
    def __call__(
        self, pixel_values: Float[Array, "B H W 3"], *, all_layers: Literal[False] = False
    ) -> Predictions: ...
    @overload
    def __call__(
        self, pixel_values: Float[Array, "B H W 3"], *, all_layers: Literal[True]
    ) -> tuple[Predictions, ...]: ...
    def __call__(self, pixel_values, *, all_layers=False):
        """Predictions at stride 4 from normalised RGB, any height and width of 32 or more.

        Args:
            pixel_values: float [B, H, W, 3], as `ImageProcessor` makes them.
            all_layers: return one `Predictions` per layer instead, the learned queries' first.

        Raises:
            ValueError: `pixel_values` has another layout, type or a side under 32.
        """
        check_pixel_values(pixel_values)
        return forward(self, jnp.asarray(pixel_values), all_layers=all_layers)


@functools.partial(jax.jit, static_argnames="all_layers")
def forward(model: Mask2Former, pixel_values: Float[Array, "B H W 3"], *, all_layers: bool):
    """The whole network as one compiled function."""
    precision = jax.config.jax_default_matmul_precision
    if precision is None and model.dtype == jnp.float32:
        precision = "highest"
    with jax.default_matmul_precision(precision):
        features = model.backbone(pixel_values.astype(model.dtype))
        return model.decoder(model.pixel_decoder(features), all_layers=all_layers)


def check_pixel_values(pixel_values):
    """Refuses, by name, what isn't a batch of normalised channels-last images."""
    shape, dtype = jnp.shape(pixel_values), jnp.result_type(pixel_values)
    if len(shape) != 4:
        raise ValueError(
            f"pixel_values has shape {shape}; expected [batch, height, width, 3] "
            "(add a batch axis with pixel_values[None])"
        )
    if shape[3] != 3:
        hint = "; it looks channels-first: use pixel_values.transpose(0, 2, 3, 1)"
        raise ValueError(
            f"pixel_values has shape {shape}; expected [batch, height, width, 3]"
            + (hint if shape[1] == 3 else "")
        )
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(
            f"pixel_values has dtype {dtype}; expected normalised floats. ImageProcessor turns "
            "uint8 images into them"
        )
    if min(shape[1:3]) < MIN_SIZE:
        raise ValueError(
            f"pixel_values is {shape[1]} x {shape[2]}; both sides must be at least {MIN_SIZE}"
        )
