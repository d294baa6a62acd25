"""Attention within shifted windows of a map (Swin, Liu et al., ICCV 2021, Sec. 3.2).

One definition, computed in three ways: all windows at once; on a TPU one row of windows after
another; and on an NVIDIA GPU, in bfloat16 or float16 and where jax-triton is installed, by the
kernel in window_attention_kernel.py, which keeps the logits on the chip. A TPU lays arrays out in
tiles of 8 x 128, so the 32 channels of a head take four times their memory there.

Axes: B images, H W rows and columns of the map, C channels, N windows of an image, T tokens of a
window, D head width.
"""

import functools
import importlib.metadata
import warnings
from collections.abc import Callable

import einops
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from m2f_jax.ops.attention import softmax_sums

JAX_TRITON = "0.3."  # the version that is used
AMPERE = 8.0  # the least compute capability that multiplies bfloat16


def window_attention(
    qkv: Float[Array, "B H W C3"],
    padding: Float[Array, "C3"],
    bias: Float[Array, "heads T T"],
    *,
    window_size: int,
    shifted: bool,
    fused: bool = False,
) -> Float[Array, "B H W C"]:
    """Computes softmax attention inside each window, with logits and softmax in float32 at least.

    The backward pass keeps the arguments alone and recomputes the logits.

    Args:
        qkv: queries, keys and values, one after another; in each the heads are side by side.
        padding: queries, keys and values of pixels that are added at the bottom and on the right,
            so that windows fill the map. They take part like any other.
        bias: added to the logits, for each query and key.
        window_size: the side of a window, so that T is its square.
        shifted: windows begin half a window further down and to the right, and those at the end
            wrap around.
        fused: on CUDA devices, use the kernel; `can_fuse` says whether it can.

    Raises:
        ValueError: T isn't the window's square, or the heads don't share the channels evenly.
    """
    heads, queries, keys = bias.shape
    channels = qkv.shape[-1]
    if not queries == keys == window_size**2 or channels % (3 * heads):
        raise ValueError(
            f"window_attention: a bias of shape {bias.shape} is of {heads} heads and {queries} x "
            f"{keys} tokens, which does not go with windows of {window_size} x {window_size} "
            f"tokens and a map of 3 x {channels / 3:g} channels"
        )
    options = {"window_size": window_size, "shifted": shifted}
    ways = {
        "default": jax.checkpoint(functools.partial(_attend, attend=_attend_at_once, **options)),
        "tpu": jax.checkpoint(functools.partial(_attend, attend=_attend_row_by_row, **options)),
    }
    if fused:
        ways["cuda"] = functools.partial(attend_fused, window_size, shifted)
    return jax.lax.platform_dependent(qkv, padding.astype(qkv.dtype), bias, **ways)


def can_fuse(dtype: jnp.dtype, window_size: int, head_width: int) -> bool:
    """Returns whether the kernel can be used: by the dtype, the sizes, the GPU and jax-triton."""
    if dtype not in (jnp.bfloat16, jnp.float16) or jax.default_backend() != "gpu":
        return False
    device = jax.local_devices()[0]
    if device.platform != "gpu" or "rocm" in device.client.platform_version.lower():
        return False
    if float(device.compute_capability) < AMPERE or not has_jax_triton():
        return False
    from m2f_jax.ops.window_attention_kernel import fits

    return fits(window_size, head_width)


@functools.cache
def has_jax_triton() -> bool:
    """Returns whether jax-triton is installed in a version that works; warns of another version.

    Version 0.4 doesn't work with JAX 0.12, which passes one of its rules an argument more.
    """
    try:
        found = importlib.metadata.version("jax-triton")
    except importlib.metadata.PackageNotFoundError:
        return False
    if not found.startswith(JAX_TRITON):
        warnings.warn(
            f"jax-triton {found} isn't known to work here, so attention in windows is computed "
            f"without its kernel; pip install 'jax-triton=={JAX_TRITON}*' makes it faster",
            stacklevel=2,
        )
        return False
    return True


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def attend_fused(
    window_size: int,
    shifted: bool,
    qkv: Float[Array, "B H W C3"],
    padding: Float[Array, "C3"],
    bias: Float[Array, "heads T T"],
) -> Float[Array, "B H W C"]:
    """Returns the kernel's result; its gradient is that of all windows at once."""
    from m2f_jax.ops.window_attention_kernel import fused_window_attention

    return fused_window_attention(qkv, padding, bias, window_size=window_size, shifted=shifted)


def _fused_forward(window_size, shifted, *arrays):
    return attend_fused(window_size, shifted, *arrays), arrays


def _fused_backward(window_size, shifted, arrays, gradient):
    options = {"window_size": window_size, "shifted": shifted}
    plain = functools.partial(_attend, attend=_attend_at_once, **options)
    # Otherwise XLA may compute the logits long before the gradient arrives, and keep them.
    arrays, gradient = jax.lax.optimization_barrier((arrays, gradient))
    return jax.vjp(plain, *arrays)[1](gradient)


attend_fused.defvjp(_fused_forward, _fused_backward)

AttendWindows = Callable[..., Float[Array, "B H W C"]]


def _attend(
    qkv: Float[Array, "B H W C3"],
    padding: Float[Array, "C3"],
    bias: Float[Array, "heads T T"],
    *,
    window_size: int,
    shifted: bool,
    attend: AttendWindows,
) -> Float[Array, "B H W C"]:
    """Pads and shifts the map, attends, and undoes both."""
    _, height, width, _ = qkv.shape
    down, across = -height % window_size, -width % window_size
    shift = window_size // 2
    if down or across:
        inside = np.pad(np.ones((height, width, 1), bool), ((0, down), (0, across), (0, 0)))
        qkv = jnp.pad(qkv, ((0, 0), (0, down), (0, across), (0, 0)))
        qkv = jnp.where(inside, qkv, padding)
    if shifted:
        qkv = jnp.roll(qkv, (-shift, -shift), axis=(1, 2))
    size = (qkv.shape[1], qkv.shape[2])
    regions = shifted_regions(size, window_size) if shifted else None
    x = attend(qkv, bias, regions, window_size=window_size)
    if shifted:
        x = jnp.roll(x, (shift, shift), axis=(1, 2))
    return x[:, :height, :width]


def _attend_row_by_row(
    qkv: Float[Array, "B H W C3"],
    bias: Float[Array, "heads T T"],
    regions: Int[Array | np.ndarray, "N T"] | None,
    *,
    window_size: int,
) -> Float[Array, "B H W C"]:
    """Attends as `_attend_at_once`, one row of windows after another."""
    rows = einops.rearrange(qkv, "b (h y) w c -> h b y w c", y=window_size)
    of_rows = None if regions is None else regions.reshape(len(rows), -1, window_size**2)
    # Otherwise the derivative would keep the logits of all rows.
    one_row = jax.checkpoint(
        lambda row: _attend_at_once(row[0], bias, row[1], window_size=window_size)
    )
    x = jax.lax.map(one_row, (rows, of_rows))
    return einops.rearrange(x, "h b y w c -> b (h y) w c")


def _attend_at_once(
    qkv: Float[Array, "B H W C3"],
    bias: Float[Array, "heads T T"],
    regions: Int[Array | np.ndarray, "N T"] | None,
    *,
    window_size: int,
) -> Float[Array, "B H W C"]:
    """Cuts a map that ends with a window into its windows, attends, and puts it together again."""
    window = {"y": window_size, "x": window_size}
    size = {"h": qkv.shape[1] // window_size, "w": qkv.shape[2] // window_size}
    qkv = einops.rearrange(
        qkv,
        "b (h y) (w x) (three heads d) -> three b (h w) heads (y x) d",
        three=3,
        heads=len(bias),
        **window,
    )
    x = attend_within_windows(qkv, bias, regions)
    return einops.rearrange(x, "b (h w) heads (y x) d -> b (h y) (w x) (heads d)", **window, **size)


def attend_within_windows(
    qkv: Float[Array, "3 B N heads T D"],
    bias: Float[Array, "heads T T"],
    regions: Int[Array | np.ndarray, "N T"] | None,
) -> Float[Array, "B N heads T D"]:
    """Attends within each window; logits between tokens of different regions are lowered by 100."""
    queries, keys, values = qkv
    wide = jnp.promote_types(qkv.dtype, jnp.float32)
    scale = queries.shape[-1] ** -0.5
    logits = jnp.einsum("bnhqd,bnhkd->bnhqk", queries, keys, preferred_element_type=wide)
    logits = logits * scale + bias.astype(wide)
    if regions is not None:
        same = jnp.asarray(regions[:, :, None] == regions[:, None, :])
        logits = jnp.where(same[:, None], logits, logits - 100)
    return jax.lax.platform_dependent(logits, values, default=_sums, cpu=softmax_sums)


def _sums(
    logits: Float[Array, "B N heads T T"], values: Float[Array, "B N heads T D"]
) -> Float[Array, "B N heads T D"]:
    """Sums up values with weights of their dtype."""
    weights = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
    return jnp.einsum("bnhqk,bnhkd->bnhqd", weights, values)


def shifted_regions(size: tuple[int, int], window_size: int) -> Int[np.ndarray, "N T"]:
    """Returns each token's region after the cyclic shift; tokens of the same one are neighbours.

    Rows and columns that wrapped around share windows with others. As in the authors' code, logits
    between such tokens are lowered by 100, not masked.
    """

    def bands(n: int) -> np.ndarray:
        shift = window_size // 2
        return np.repeat([0, 1, 2], [n - window_size, window_size - shift, shift])

    height, width = size
    regions = 3 * bands(height)[:, None] + bands(width)
    return einops.rearrange(
        regions, "(h y) (w x) -> (h w) (y x)", y=window_size, x=window_size
    ).astype(np.int8)
