"""ResNets with frozen statistics (He et al., CVPR 2016), as detectron2 builds them.

Axes: B images, H W rows and columns of the current map, C channels.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from m2f_jax.config import ResNetConfig
from m2f_jax.modeling.initializers import kaiming_fan_out, ones, zeros
from m2f_jax.modeling.layers import FROZEN, Conv

EPSILON = 1e-5
BOTTLENECK = 4  # channels of a block's output, per channel of its inner convolutions
STAGES = ("res2", "res3", "res4", "res5")  # the authors' names, by the power of 2 of the stride


class FrozenBatchNorm(nnx.Module):
    """Batch normalization by stored statistics; none of its four vectors is trained.

    Detectron2's FrozenBatchNorm2d; in inference, also its SyncBN.
    """

    def __init__(self, dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.scale = nnx.Param(ones(rngs.params(), (dim,)), **FROZEN)
        self.bias = nnx.Param(zeros(rngs.params(), (dim,)), **FROZEN)
        self.mean = nnx.Param(zeros(rngs.params(), (dim,)), **FROZEN)
        self.variance = nnx.Param(ones(rngs.params(), (dim,)), **FROZEN)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        wide = jnp.promote_types(self.dtype, jnp.float32)
        scale, bias, mean, variance = (
            jax.lax.stop_gradient(vector[...].astype(wide))
            for vector in (self.scale, self.bias, self.mean, self.variance)
        )
        factor = scale * jax.lax.rsqrt(variance + EPSILON)
        return (x.astype(wide) * factor + (bias - mean * factor)).astype(self.dtype)


class ConvNorm(nnx.Module):
    """A convolution without bias, padded equally on all sides, and its norm."""

    def __init__(
        self,
        source: int,
        target: int,
        size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        padding = (size - 1) // 2 * dilation
        self.conv = Conv(
            source,
            target,
            (size, size),
            strides=stride,
            kernel_dilation=dilation,
            padding=[(padding, padding)] * 2,
            use_bias=False,
            kernel_init=kaiming_fan_out,
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = FrozenBatchNorm(target, dtype=dtype, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C2"]:
        return self.norm(self.conv(x))


class Bottleneck(nnx.Module):
    """Convolutions of 1 x 1, 3 x 3 (with the stride) and 1 x 1, added to a shortcut."""

    def __init__(
        self,
        source: int,
        target: int,
        *,
        stride: int,
        dilation: int,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        layer = functools.partial(ConvNorm, dtype=dtype, rngs=rngs)
        inner = target // BOTTLENECK
        self.conv1 = layer(source, inner, 1)
        self.conv2 = layer(inner, inner, 3, stride=stride, dilation=dilation)
        self.conv3 = layer(inner, target, 1)
        self.shortcut = layer(source, target, 1, stride=stride) if source != target else None

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C2"]:
        y = jax.nn.relu(self.conv1(x))
        y = jax.nn.relu(self.conv2(y))
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return jax.nn.relu(self.conv3(y) + shortcut)


class Stem(nnx.Module):
    """A convolution of 7 x 7, or DeepLab's three of 3 x 3, and max pooling; to stride 4."""

    def __init__(self, cfg: ResNetConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        layer = functools.partial(ConvNorm, dtype=dtype, rngs=rngs)
        half = cfg.stem_dim // 2
        self.convs = nnx.List(
            [
                layer(3, half, 3, stride=2),
                layer(half, half, 3),
                layer(half, cfg.stem_dim, 3),
            ]
            if cfg.deeplab
            else [layer(3, cfg.stem_dim, 7, stride=2)]
        )

    def __call__(self, x: Float[Array, "B H W 3"]) -> Float[Array, "B H4 W4 C"]:
        for conv in self.convs:
            x = jax.nn.relu(conv(x))
        return jax.lax.reduce_window(
            x, -jnp.inf, jax.lax.max, (1, 3, 3, 1), (1, 2, 2, 1), ((0, 0), (1, 1), (1, 1), (0, 0))
        )


class ResNet(nnx.Module):
    """A stem and four stages of bottlenecks, the outputs of which are the features."""

    def __init__(self, cfg: ResNetConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.stem = Stem(cfg, dtype=dtype, rngs=rngs)
        source = cfg.stem_dim
        for i, (name, target) in enumerate(zip(STAGES, cfg.channels, strict=True)):
            dilations = [1] * cfg.depths[i]
            if cfg.deeplab and name == "res5":  # dilations of 1, 2, 4; the stride stays 2
                dilations = (2 ** np.arange(cfg.depths[i])).tolist()
            blocks = []
            for j, dilation in enumerate(dilations):
                stride = 2 if j == 0 and name != "res2" else 1
                blocks.append(
                    Bottleneck(
                        source, target, stride=stride, dilation=dilation, dtype=dtype, rngs=rngs
                    )
                )
                source = target
            setattr(self, name, nnx.List(blocks))

    def __call__(
        self,
        images: Float[Array, "B H W 3"],
        *,
        drop_key: jax.Array | None = None,
        remat: bool = False,
    ) -> tuple[Float[Array, "B _ _ _"], ...]:
        """Returns feature maps at strides 4, 8, 16, 32; sides are rounded up.

        Args:
            images: normalised RGB.
            drop_key: ignored, since ResNets have no stochastic depth.
            remat: for the gradient, keep each block's input only and recompute the rest.
        """
        del drop_key
        x = self.stem(images)
        features = []
        for name in STAGES:
            for block in getattr(self, name):
                x = (jax.checkpoint(block) if remat else block)(x)
            features.append(x)
        return tuple(features)
