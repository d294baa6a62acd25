"""Window attention as one kernel for NVIDIA GPUs, in Triton: logits never leave the chip.

A program takes one head of a window. It reads the window's tokens in place from the map, so nothing
is padded, rolled or cut out beforehand. For pixels beyond the map it reads the padding's row
instead. For windows that wrap around it reads a bias from which the 100 between regions is already
subtracted. One compiled kernel serves all stages, image sizes and shifts.

Tiles in Triton have a power of two of rows. The 144 keys of a window of 12 are a tile of 128 and
one of 16, and the softmax is taken over both. Only the result is computed, no derivative.

It needs jax-triton and an NVIDIA GPU of compute capability 8.0 or more.
"""

# ruff: noqa: N803, N806 - constants of a kernel are its capital arguments
# The kernel is in Triton's language, whose types a checker of Python doesn't know.
# pyright: reportPossiblyUnboundVariable=false, reportGeneralTypeIssues=false
# pyright: reportCallIssue=false, reportArgumentType=false, reportOperatorIssue=false

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import triton  # pyright: ignore[reportMissingImports]
import triton.language as tl  # pyright: ignore[reportMissingImports]
from jaxtyping import Array, Bool, Float

LARGEST_BIAS = 6e4  # what float16 can hold
BLOCK_Q = 64  # queries of a tile, the fastest on an H100 for windows of 12 x 12


@dataclasses.dataclass(frozen=True)
class Tiling:
    """How the work is divided among programs, which doesn't change the result."""

    block_q: int  # queries that are treated at once
    tiles: int  # such blocks in one program, which share the keys and values
    windows: int = 1  # windows in one program, one after another
    group: int = 256  # windows' programs that start before the next head's do
    num_warps: int = 4
    num_stages: int = 1
    unroll: bool = False


def fused_window_attention(
    qkv: Float[Array, "B H W C3"],
    padding: Float[Array, "C3"],
    bias: Float[Array, "heads T T"],
    *,
    window_size: int,
    shifted: bool,
    tiling: Tiling | None = None,
    compute_capability: int | None = None,
) -> Float[Array, "B H W C"]:
    """Returns what `m2f_jax.ops.window_attention` computes, on an NVIDIA GPU.

    The map is in bfloat16 or float16; `fits` says which windows and heads it takes.

    Args:
        qkv: as of `window_attention`.
        padding: as of `window_attention`.
        bias: as of `window_attention`.
        window_size: as of `window_attention`.
        shifted: as of `window_attention`.
        tiling: how the work is divided; by default what was fastest on an H100.
        compute_capability: of the device, such as 90; by default that of the first one here.
    """
    import jax_triton  # pyright: ignore[reportMissingImports] - wants JAX's CUDA plugin beside it

    tiling = tiling or Tiling(BLOCK_Q, -(-(window_size**2) // BLOCK_Q), unroll=True)
    batch, height, width, channels = qkv.shape
    heads, tokens, _ = bias.shape
    dim = channels // (3 * heads)
    main, rest = key_tiles(tokens)
    splits = -(-tokens // (tiling.block_q * tiling.tiles))
    windows = batch * -(-height // window_size) * -(-width // window_size)
    shift = window_size // 2 if shifted else 0
    return jax_triton.triton_call(
        qkv,
        padding.astype(qkv.dtype),
        biases_by_place(bias, window_size, shift, dim**0.5),
        batch,
        height,
        width,
        heads,
        shift,
        kernel=window_attention_kernel,
        out_shape=jax.ShapeDtypeStruct((batch, height, width, channels // 3), qkv.dtype),
        compute_capability=compute_capability,
        grid=(-(-windows // tiling.windows) * heads * splits,),
        name="window_attention",
        num_warps=tiling.num_warps,
        num_stages=tiling.num_stages,
        EXPONENT=dim**-0.5 * math.log2(math.e),
        WINDOW=window_size,
        DIM=dim,
        MAIN=main,
        REST=rest,
        BLOCK_Q=tiling.block_q,
        TILES=tiling.tiles,
        SPLITS=splits,
        WINDOWS=tiling.windows,
        GROUP=tiling.group,
        UNROLL=tiling.unroll,
    )


def fits(window_size: int, head_width: int) -> bool:
    """Returns whether the kernel takes windows and heads of these sizes."""
    return 2 <= window_size <= 16 and head_width in (16, 32, 64)


def key_tiles(tokens: int) -> tuple[int, int]:
    """Returns the rows of the two tiles that hold a window's keys; the second may have none."""
    whole = max(16, triton.next_power_of_2(tokens))
    main = whole // 2
    rest = max(16, triton.next_power_of_2(max(tokens - main, 1)))
    return (main, rest) if main >= 16 and main + rest < whole else (whole, 0)


def biases_by_place(
    bias: Float[Array, "heads T T"], window_size: int, shift: int, scale: float
) -> Float[Array, "places heads T T"]:
    """Returns the biases times `scale`, by which the kernel divides its logits at the end.

    Without a shift all windows have one bias. With it there are four: for windows that are neither
    in the last row nor in the last column, in the last column, in the last row, and in both. They
    are in float16, which is more precise than bfloat16, and cut off at 6e4.
    """
    places = bias.astype(jnp.float32)[None]
    if shift:
        together = jnp.asarray(same_regions(window_size, shift))[:, None]
        places = jnp.where(together, places, places - 100)
    return jnp.clip(places * scale, -LARGEST_BIAS, LARGEST_BIAS).astype(jnp.float16)


def same_regions(window_size: int, shift: int) -> Bool[np.ndarray, "4 T T"]:
    """Returns whether two tokens of a window are neighbours, for the four places of a window."""
    row, column = np.divmod(np.arange(window_size**2), window_size)
    wrapped = [line >= window_size - shift for line in (row, column)]
    rows, columns = (line[:, None] == line for line in wrapped)
    return np.stack([np.ones_like(rows), columns, rows, rows & columns])


@triton.jit
def _locate(token, top, left, height, width, bottom, right, WINDOW: tl.constexpr):
    """Returns each token's pixel and whether it is in the map; rows and columns wrap around."""
    y = top + token // WINDOW
    x = left + token % WINDOW
    y = tl.where(y >= bottom, y - bottom, y)
    x = tl.where(x >= right, x - right, x)
    inside = (token < WINDOW * WINDOW) & (y < height) & (x < width)
    return y * width + x, inside


@triton.jit
def _load(rows, offset, DIM: tl.constexpr):
    return tl.load(rows[:, None] + (offset + tl.arange(0, DIM))[None, :])


@triton.jit
def _load_bias(bias, query, key, TOKENS: tl.constexpr, FULL: tl.constexpr):
    """Loads a tile of the bias, which is minus infinity in columns beyond the window."""
    at = bias + tl.minimum(query, TOKENS - 1)[:, None] * TOKENS + key[None, :]
    if FULL:
        return tl.load(at).to(tl.float32)
    return tl.load(at, mask=(key < TOKENS)[None, :], other=-float("inf")).to(tl.float32)


@triton.jit
def window_attention_kernel(
    qkv,
    padding,
    bias,
    images,
    height,
    width,
    heads,
    shift,
    out,
    EXPONENT: tl.constexpr,
    WINDOW: tl.constexpr,
    DIM: tl.constexpr,
    MAIN: tl.constexpr,
    REST: tl.constexpr,
    BLOCK_Q: tl.constexpr,
    TILES: tl.constexpr,
    SPLITS: tl.constexpr,
    WINDOWS: tl.constexpr,
    GROUP: tl.constexpr,
    UNROLL: tl.constexpr,
):
    """Computes one program's part of `fused_window_attention`."""
    TOKENS: tl.constexpr = WINDOW * WINDOW
    down = tl.cdiv(height, WINDOW)
    across = tl.cdiv(width, WINDOW)
    bottom = down * WINDOW
    right = across * WINDOW
    total = images * down * across
    chunks = tl.cdiv(total, WINDOWS)

    # Programs of one head run side by side, so that its bias stays in the cache.
    program = tl.program_id(0)
    split = program % SPLITS
    program = program // SPLITS
    group = program // (GROUP * heads)
    in_group = tl.minimum(chunks - group * GROUP, GROUP)
    program = program - group * GROUP * heads
    head = program // in_group
    chunk = group * GROUP + program % in_group

    stride = heads * (3 * DIM)
    main = tl.arange(0, MAIN)
    if REST > 0:
        rest = MAIN + tl.arange(0, REST)
    bias += head * (TOKENS * TOKENS)

    for window in tl.range(chunk * WINDOWS, tl.minimum(total, chunk * WINDOWS + WINDOWS)):
        image = window // (down * across)
        place = window % (down * across)
        top = place // across
        left = place % across
        case = 2 * (top == down - 1) + (left == across - 1)
        case = tl.where(shift > 0, case, 0)
        bias_here = bias + case * heads * (TOKENS * TOKENS)
        top = top * WINDOW + shift
        left = left * WINDOW + shift
        first = image.to(tl.int64) * height * width
        source = qkv + first * stride
        target = out + first * (heads * DIM)

        pixel, inside = _locate(main, top, left, height, width, bottom, right, WINDOW)
        rows = tl.where(inside, source + pixel.to(tl.int64) * stride, padding)
        keys = _load(rows, (heads + head) * DIM, DIM)
        values = _load(rows, (2 * heads + head) * DIM, DIM)
        if REST > 0:
            pixel, inside = _locate(rest, top, left, height, width, bottom, right, WINDOW)
            rows = tl.where(inside, source + pixel.to(tl.int64) * stride, padding)
            keys_rest = _load(rows, (heads + head) * DIM, DIM)
            values_rest = _load(rows, (2 * heads + head) * DIM, DIM)

        for tile in tl.range(0, TILES, loop_unroll_factor=TILES if UNROLL else 1):
            query = (split * TILES + tile) * BLOCK_Q + tl.arange(0, BLOCK_Q)
            place_q, inside_q = _locate(query, top, left, height, width, bottom, right, WINDOW)
            rows_q = tl.where(inside_q, source + place_q.to(tl.int64) * stride, padding)
            queries = _load(rows_q, head * DIM, DIM)

            logits = _load_bias(bias_here, query, main, TOKENS, MAIN <= TOKENS)
            logits = tl.dot(queries, tl.trans(keys), logits)
            largest = tl.max(logits, 1)
            if REST > 0:
                logits_rest = _load_bias(bias_here, query, rest, TOKENS, MAIN + REST <= TOKENS)
                logits_rest = tl.dot(queries, tl.trans(keys_rest), logits_rest)
                largest = tl.maximum(largest, tl.max(logits_rest, 1))
            largest = (largest * EXPONENT)[:, None]
            weights = tl.exp2(logits * EXPONENT - largest)
            sums = tl.sum(weights, 1)
            read = tl.dot(weights.to(values.dtype), values)
            if REST > 0:
                weights_rest = tl.exp2(logits_rest * EXPONENT - largest)
                sums += tl.sum(weights_rest, 1)
                read = tl.dot(weights_rest.to(values.dtype), values_rest, read)
            read = (read * (1.0 / sums)[:, None]).to(values.dtype)
            rows_q = target + place_q.to(tl.int64) * (heads * DIM) + head * DIM
            at = rows_q[:, None] + tl.arange(0, DIM)[None, :]
            tl.store(at, read, mask=inside_q[:, None])
