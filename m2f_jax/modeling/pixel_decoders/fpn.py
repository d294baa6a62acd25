"""A feature pyramid network as the pixel decoder: MaskFormer's, for comparison.

The authors' `BasePixelDecoder`; the network is that of Lin et al., CVPR 2017.

Axes: B images, C width, E mask embedding width.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import FPNPixelDecoderConfig
from m2f_jax.modeling.initializers import caffe, zeros
from m2f_jax.modeling.layers import Conv, GroupNorm
from m2f_jax.structures import FeaturePyramid

NUM_LEVELS = 3


def upsample_nearest(
    x: Float[Array, "B h w C"], size: tuple[int, int]
) -> Float[Array, "B {size[0]} {size[1]} C"]:
    """Doubles the sides by repeating pixels, without the last row or column where `size` is odd.

    The same as PyTorch's nearest interpolation from n to 2 n or to 2 n - 1 pixels.
    """
    return x.repeat(2, axis=1).repeat(2, axis=2)[:, : size[0], : size[1]]


class ConvNorm(nnx.Module):
    """A convolution without bias, and GroupNorm."""

    def __init__(
        self, source: int, target: int, kernel_size: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.conv = Conv(
            source,
            target,
            (kernel_size, kernel_size),
            padding=kernel_size // 2,
            use_bias=False,
            kernel_init=caffe,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = GroupNorm(target, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W source"]) -> Float[Array, "B H W target"]:
        return self.norm(self.conv(x))


class TopDownStep(nnx.Module):
    """One level of the pyramid, made from the backbone's map and the coarser level above it."""

    def __init__(self, source: int, dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.lateral = ConvNorm(source, dim, 1, dtype=dtype, rngs=rngs)
        self.output = ConvNorm(dim, dim, 3, dtype=dtype, rngs=rngs)

    def __call__(
        self, features: Float[Array, "B H W source"], above: Float[Array, "B h w C"]
    ) -> Float[Array, "B H W C"]:
        x = self.lateral(features)
        x = x + upsample_nearest(above, (x.shape[1], x.shape[2]))
        return jax.nn.relu(self.output(x))


class FPNPixelDecoder(nnx.Module):
    """A top-down pyramid of strides 32, 16, 8 and 4; its last level gives the embeddings."""

    def __init__(
        self,
        cfg: FPNPixelDecoderConfig,
        in_channels: Sequence[int],
        *,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        *finer, res5 = in_channels
        self.top = ConvNorm(res5, cfg.dim, 3, dtype=dtype, rngs=rngs)
        self.steps = nnx.List(
            TopDownStep(channels, cfg.dim, dtype=dtype, rngs=rngs) for channels in reversed(finer)
        )
        self.mask_features = Conv(
            cfg.dim,
            cfg.mask_dim,
            (3, 3),
            padding=1,
            kernel_init=caffe,
            bias_init=zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self,
        features: Sequence[Float[Array, "B _ _ _"]],
        *,
        drop_key: jax.Array | None = None,  # noqa: ARG002 - it has no dropout
        remat: bool = False,
    ) -> FeaturePyramid:
        """Computes the pyramid from maps at strides 4, 8, 16, 32; `remat` as for the backbone."""
        *finer, res5 = features
        levels = [jax.nn.relu(self.top(res5))]
        for step, x in zip(self.steps, reversed(finer), strict=True):
            levels.append((jax.checkpoint(step) if remat else step)(x, levels[-1]))
        return FeaturePyramid(tuple(levels[:NUM_LEVELS]), self.mask_features(levels[-1]))
