"""The backbone: an image to features at strides 4, 8, 16 and 32 (Swin, Liu et al., ICCV 2021).

Axes: B images, H W rows and columns of the current map, C channels, T tokens of a window.
"""

import functools

import einops
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from m2f_jax.config import SwinConfig
from m2f_jax.modeling.initializers import swin_normal, torch_default, torch_default_bias, zeros
from m2f_jax.modeling.layers import MLP, UNDECAYED, Linear, gelu, layer_norm
from m2f_jax.ops.window_attention import can_fuse, window_attention

PATCH_SIZE = 4


def pad_to_multiple(x: Float[Array, "B H W C"], multiple: int) -> Float[Array, "B H2 W2 C"]:
    """Pads with zeros at the bottom and on the right, to sides that are multiples of `multiple`."""
    _, height, width, _ = x.shape
    return jnp.pad(x, ((0, 0), (0, -height % multiple), (0, -width % multiple), (0, 0)))


def relative_position_index(window_size: int) -> Int[np.ndarray, "T T"]:
    """Returns the row of the bias table for the offset of each query and key of a window."""
    y, x = np.divmod(np.arange(window_size**2), window_size)
    dy = y[:, None] - y + window_size - 1
    dx = x[:, None] - x + window_size - 1
    return dy * (2 * window_size - 1) + dx


def drop_path(
    key: jax.Array, rate: float, blocks: int, batch: int
) -> Float[Array, "{blocks} 2 {batch}"]:
    """Draws the factors of stochastic depth: 0, or the inverse probability of keeping a branch.

    The probability of 0 rises evenly from 0 at the first block to `rate` at the last. As in the
    authors' code, both branches of a block are dropped, each by itself (Hugging Face drops only
    the attention's).
    """
    kept = 1 - jnp.linspace(0, rate, blocks)[:, None, None]
    return jax.random.bernoulli(key, kept, (blocks, 2, batch)) / kept


class WindowAttention(nnx.Module):
    """Self-attention in windows with a learned bias by relative position.

    Attributes:
        fused: on CUDA devices, use the kernel; by default wherever it can be used.
    """

    def __init__(
        self, dim: int, num_heads: int, window_size: int, *, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        self.num_heads, self.window_size = num_heads, window_size
        self.fused = can_fuse(dtype, window_size, dim // num_heads)
        linear = functools.partial(
            Linear, kernel_init=swin_normal, bias_init=zeros, dtype=dtype, rngs=rngs
        )
        self.qkv = linear(dim, 3 * dim)
        self.output = linear(dim, dim)
        self.relative_position_bias = nnx.Param(
            swin_normal(rngs.params(), ((2 * window_size - 1) ** 2, num_heads)), **UNDECAYED
        )

    def __call__(self, x: Float[Array, "B H W C"], *, shifted: bool) -> Float[Array, "B H W C"]:
        index = relative_position_index(self.window_size)
        bias = jnp.moveaxis(self.relative_position_bias[...][index], -1, 0)
        # With a single axis of tokens, XLA on a CPU leaves the product apart from norm and padding.
        qkv = self.qkv(x.reshape(-1, x.shape[-1])).reshape(*x.shape[:-1], -1)
        # The authors pad with zeros and mask nothing: a padded token has the biases as its qkv.
        x = window_attention(
            qkv,
            self.qkv.bias[...],  # pyright: ignore[reportOptionalSubscript] - it has one
            bias,
            window_size=self.window_size,
            shifted=shifted,
            fused=self.fused,
        )
        return self.output(x)


class SwinBlock(nnx.Module):
    """Window attention and an MLP, each normalised before and added to its input."""

    def __init__(
        self,
        dim: int,
        num_heads: int,
        cfg: SwinConfig,
        *,
        shifted: bool,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.shifted = shifted
        self.norm1 = layer_norm(dim, dtype=dtype, rngs=rngs)
        self.attention = WindowAttention(dim, num_heads, cfg.window_size, dtype=dtype, rngs=rngs)
        self.norm2 = layer_norm(dim, dtype=dtype, rngs=rngs)
        hidden = int(dim * cfg.mlp_ratio)
        self.mlp = MLP(
            (dim, hidden, dim),
            activation=gelu,
            kernel_init=swin_normal,
            bias_init=zeros,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(
        self, x: Float[Array, "B H W C"], scales: Float[Array, "2 #B"]
    ) -> Float[Array, "B H W C"]:
        """Computes the block; `scales` multiplies what attention and MLP add to each image."""
        attention_scale, mlp_scale = scales[:, :, None, None, None]
        x = x + attention_scale * self.attention(self.norm1(x), shifted=self.shifted)
        return x + mlp_scale * self.mlp(self.norm2(x))


class PatchMerging(nnx.Module):
    """Halves the sides and doubles the channels."""

    def __init__(self, dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.norm = layer_norm(4 * dim, dtype=dtype, rngs=rngs)
        self.reduction = Linear(
            4 * dim, 2 * dim, use_bias=False, kernel_init=swin_normal, dtype=dtype, rngs=rngs
        )

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C2"]:
        x = einops.rearrange(pad_to_multiple(x, 2), "b (h y) (w x) c -> b h w (x y c)", y=2, x=2)
        return self.reduction(self.norm(x))


class PatchEmbedding(nnx.Module):
    """Each 4 x 4 patch of pixels as one token."""

    def __init__(self, dim: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        inputs = PATCH_SIZE**2 * 3
        self.projection = Linear(
            inputs,
            dim,
            kernel_init=torch_default,
            bias_init=torch_default_bias(inputs),
            dtype=dtype,
            rngs=rngs,
        )
        self.norm = layer_norm(dim, dtype=dtype, rngs=rngs)

    def __call__(self, images: Float[Array, "B H W 3"]) -> Float[Array, "B H4 W4 C"]:
        images = pad_to_multiple(images, PATCH_SIZE)
        patches = einops.rearrange(
            images, "b (h y) (w x) c -> b h w (y x c)", y=PATCH_SIZE, x=PATCH_SIZE
        )
        return self.norm(self.projection(patches))


class SwinStage(nnx.Module):
    """Blocks at one resolution, every other one with shifted windows."""

    def __init__(self, stage: int, cfg: SwinConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        dim, num_heads = cfg.channels[stage], cfg.num_heads[stage]
        self.blocks = nnx.List(
            SwinBlock(dim, num_heads, cfg, shifted=i % 2 == 1, dtype=dtype, rngs=rngs)
            for i in range(cfg.depths[stage])
        )

    def __call__(
        self, x: Float[Array, "B H W C"], scales: Float[Array, "blocks 2 #B"], *, remat: bool
    ) -> Float[Array, "B H W C"]:
        for block, branch_scales in zip(self.blocks, scales, strict=True):
            x = (jax.checkpoint(block) if remat else block)(x, branch_scales)
        return x


class SwinTransformer(nnx.Module):
    """Four stages of blocks, and norms of their outputs, which only the pixel decoder reads."""

    def __init__(self, cfg: SwinConfig, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.drop_path_rate = cfg.drop_path_rate
        self.patch_embedding = PatchEmbedding(cfg.embed_dim, dtype=dtype, rngs=rngs)
        self.stages = nnx.List(SwinStage(i, cfg, dtype=dtype, rngs=rngs) for i in range(4))
        self.merges = nnx.List(
            PatchMerging(dim, dtype=dtype, rngs=rngs) for dim in cfg.channels[:-1]
        )
        self.norms = nnx.List(layer_norm(dim, dtype=dtype, rngs=rngs) for dim in cfg.channels)

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
            drop_key: of stochastic depth; without it, nothing is dropped.
            remat: for the gradient, keep each block's input only and recompute the rest.
        """
        x = self.patch_embedding(images)
        depths = [len(stage.blocks) for stage in self.stages]
        if drop_key is None:
            branch_scales = jnp.ones((sum(depths), 2, 1))
        else:
            branch_scales = drop_path(drop_key, self.drop_path_rate, sum(depths), len(images))
        scales = jnp.split(branch_scales.astype(x.dtype), np.cumsum(depths)[:-1].tolist())
        features = []
        for i, (stage, norm) in enumerate(zip(self.stages, self.norms, strict=True)):
            x = stage(x, scales[i], remat=remat)
            features.append(norm(x))
            if i < len(self.merges):
                x = self.merges[i](x)
        return tuple(features)
