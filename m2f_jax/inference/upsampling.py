"""The plan by which mask logits are upsampled to the output, and its application in parts.

Mask logits are resized to the padded input, cropped, and resized to the original size. Along an
axis, all of that is a weighted sum of three neighbours. Their indices and weights are arguments of
the compiled programs, so one compilation serves every image whose output fits the same canvas. The
device applies them as products of small matrices, to the few rows or columns of logits that a block
of output rows or columns depends on.

Axes: N masks, h w the logits' size, H W the canvas, Wp the padded input's width; B blocks of R rows
of the canvas, b rows of logits that such a block needs; D blocks of E columns, e columns of logits
that such a block needs; S strips of C columns of the canvas.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped

from m2f_jax.ops.resize import Band, bilinear_band, bilinear_taps, resize_rows
from m2f_jax.sizes import Size
from m2f_jax.structures import ImageSize

CANVAS_MULTIPLE = 128  # outputs are computed on canvases of such sides, then cropped
ROWS_AT_ONCE = 32  # output rows of a block
COLUMNS_AT_ONCE = 64  # output columns of a block
STRIP = 8192  # larger outputs are computed in strips of so many columns at most
STRIP_PIXELS = 2**22  # and of so many pixels

AnyArray = Array | np.ndarray


class Neighbours(NamedTuple):
    """The source samples whose weighted sum is an output sample, along one axis."""

    first: Int[AnyArray, "samples"]  # index of the first one; ascending within the output
    weights: Float[AnyArray, "samples taps"]  # zero beyond the output


class Upsampling(NamedTuple):
    """The plan by which mask logits are upsampled to the output."""

    rows: Neighbours  # H of h
    columns: Neighbours  # W of w
    inside_rows: Bool[AnyArray, "H"]
    inside_columns: Bool[AnyArray, "W"]


class ScoreUpsampling(NamedTuple):
    """The plan by which class scores, computed at the padded size, are resized to the output."""

    upper_rows: Neighbours  # H of h: the upper of two padded rows that an output row lies between
    lower_rows: Neighbours
    lower_weight: Float[AnyArray, "H"]
    columns: Neighbours  # Wp of w
    output_columns: Neighbours  # W of Wp


def canvas_size(size: Size) -> Size:
    """Returns the canvas of an output: its height and width, rounded up to `CANVAS_MULTIPLE`."""
    height, width = size
    return height + -height % CANVAS_MULTIPLE, width + -width % CANVAS_MULTIPLE


def _to_canvas(x: np.ndarray, canvas: int) -> np.ndarray:
    """Appends rows of zeros up to the canvas."""
    return np.pad(x, ((0, canvas - len(x)), *[(0, 0)] * (x.ndim - 1)))


def _neighbours(band: Band, source: int, canvas: int) -> Neighbours:
    """Returns a band's weights by output sample, padded to the canvas, in float32.

    `band` is the product of at most two bilinear steps, the first of which doesn't shrink the axis
    of `source` samples, so an output sample has at most three neighbours, next to each other.
    """
    taps = min(3, source)
    first = (band.first + (band.weights != 0).argmax(axis=1)).clip(max=source - taps)
    place = (first - band.first)[:, None] + np.arange(taps)
    weights = np.take_along_axis(np.pad(band.weights, ((0, 0), (taps, taps))), place + taps, axis=1)
    return Neighbours(
        _to_canvas(first.astype(np.int32), canvas),
        _to_canvas(weights.astype(np.float32), canvas),
    )


def _to_padded(logits: Size, padded: Size, axis: int) -> Band:
    if logits[axis] > padded[axis]:
        raise ValueError(
            f"mask logits of {logits[0]} x {logits[1]} (height x width) are not those of an input "
            f"padded to {padded[0]} x {padded[1]}; give the sizes that the model's input has"
        )
    return bilinear_band(logits[axis], padded[axis])


@functools.lru_cache(maxsize=8)
def plan_upsampling(logits: Size, size: ImageSize, target: Size) -> Upsampling:
    """Returns the plan of three steps: bilinear to the padded input, crop, bilinear to `target`.

    Images of one size share the plan's arrays, which mustn't be written to.

    Raises:
        ValueError: the logits are larger than the padded input.
    """
    canvas = canvas_size(target)
    rows, columns = (
        _neighbours(
            resize_rows(_to_padded(logits, size.padded, i).rows(slice(size.resized[i])), target[i]),
            logits[i],
            canvas[i],
        )
        for i in (0, 1)
    )
    return Upsampling(rows, columns, *(np.arange(canvas[i]) < target[i] for i in (0, 1)))


@functools.lru_cache(maxsize=8)
def plan_score_upsampling(logits: Size, size: ImageSize, target: Size) -> ScoreUpsampling:
    """Returns the plan of the same steps, with class scores computed after the first one.

    Raises:
        ValueError: the logits are larger than the padded input.
    """
    canvas = canvas_size(target)
    padded_rows, padded_columns = (_to_padded(logits, size.padded, i) for i in (0, 1))
    between = bilinear_taps(size.resized[0], target[0])
    return ScoreUpsampling(
        upper_rows=_neighbours(padded_rows.rows(between.first), logits[0], canvas[0]),
        lower_rows=_neighbours(padded_rows.rows(between.second), logits[0], canvas[0]),
        lower_weight=_to_canvas(between.weight.astype(np.float32), canvas[0]),
        columns=_neighbours(padded_columns, logits[1], size.padded[1]),
        output_columns=_neighbours(
            bilinear_band(size.resized[1], target[1]), size.padded[1], canvas[1]
        ),
    )


def to_matrix(
    neighbours: Neighbours, source: int, start: int | Int[Array, ""] = 0
) -> Float[Array, "samples {source}"]:
    """Returns the weights as a matrix over `source` samples from index `start` on, in float32."""
    first, weights = neighbours
    tap = start + jnp.arange(source) - first[:, None]
    matrix = jnp.zeros(tap.shape, weights.dtype)
    for i in range(weights.shape[1]):
        matrix = jnp.where(tap == i, weights[:, i, None], matrix)
    return matrix


def in_blocks(x: AnyArray, at_once: int = ROWS_AT_ONCE) -> AnyArray:
    """Returns the rows (or columns) of the canvas in blocks."""
    return x.reshape(-1, at_once, *x.shape[1:])


def _reach(at_once: int, source: int, canvas: int) -> int:
    """Returns how many of `source` samples so many neighbouring samples of the output depend on."""
    # They span at most `between` samples, as the output fills the canvas but for less than
    # CANVAS_MULTIPLE. Each of two bilinear steps needs one sample more on both sides.
    between = -(-(at_once - 1) * source // (canvas - CANVAS_MULTIPLE + 1))
    return min(source, between + 5)


def rows_in_blocks(
    height: int, *rows: Neighbours
) -> tuple[Int[Array, "B"], *tuple[Float[Array, "B R b"], ...]]:
    """Returns which rows of logits each block of output rows depends on, and their weights.

    Args:
        height: of the logits, in rows.
        rows: the neighbours of each output row. Where several are given, no sample of the first
            lies below the same row's sample of another.

    Returns:
        The index of each block's first row, and for each of `rows` the weights from there on.
    """
    needed = _reach(ROWS_AT_ONCE, height, len(rows[0].first))
    first = jnp.minimum(rows[0].first[::ROWS_AT_ONCE], height - needed)
    return first, *(_matrices(x, ROWS_AT_ONCE, first, needed) for x in rows)


def _matrices(
    neighbours: Neighbours, at_once: int, first: Int[Array, "blocks"], needed: int
) -> Float[Array, "blocks {at_once} {needed}"]:
    """Returns the weights of blocks of output samples, each from its `first` sample on."""
    to_matrices = jax.vmap(functools.partial(to_matrix, source=needed))
    return to_matrices(jax.tree.map(lambda x: in_blocks(x, at_once), neighbours), start=first)


class Columns(NamedTuple):
    """Columns of logits that blocks of output columns depend on, and their weights."""

    first: Int[Array, "D"]  # index of each block's leftmost one
    weights: Float[Array, "D E e"]


def columns_in_blocks(columns: Neighbours, width: int, canvas: int) -> Columns:
    """Returns which columns of logits each block of output columns depends on.

    Args:
        columns: the neighbours of each output column, of the whole canvas or of a strip.
        width: of the logits, in columns.
        canvas: how many columns the whole canvas has.
    """
    return _in_blocks_of(_reach(COLUMNS_AT_ONCE, width, canvas), columns, width)


def _in_blocks_of(needed: int, columns: Neighbours, width: int) -> Columns:
    """Returns blocks that depend on `needed` of `width` columns; the last is filled up with 0."""
    missing = -len(columns.first) % COLUMNS_AT_ONCE
    filled = Neighbours(
        jnp.pad(columns.first, (0, missing), mode="edge"),
        jnp.pad(columns.weights, ((0, missing), (0, 0))),
    )
    first = jnp.clip(filled.first[::COLUMNS_AT_ONCE], 0, width - needed)
    return Columns(first, _matrices(filled, COLUMNS_AT_ONCE, first, needed))


def over_strips(
    function: Callable[..., Any], height: int, columns: Neighbours, *more: AnyArray
) -> Any:
    """Applies a function to every strip of output columns and stacks the results.

    Args:
        function: takes the strip's part of `columns` and `more`.
        height: of the canvas.
        columns: the neighbours of each output column.
        more: arrays with a row for each output column.
    """
    width = min(STRIP, STRIP_PIXELS // height // CANVAS_MULTIPLE * CANVAS_MULTIPLE)
    width = max(width, CANVAS_MULTIPLE)
    if len(columns.first) <= width:
        return jax.tree.map(lambda x: x[None], function(columns, *more))
    in_strips = jax.tree.map(functools.partial(_strips, width=width), (columns, *more))
    return jax.lax.map(lambda x: function(*x), in_strips)


def _strips(x: AnyArray, width: int) -> Array:
    """Returns the columns of the canvas in strips; the last one is filled up with zeros."""
    filled = jnp.pad(x, ((0, -len(x) % width), *[(0, 0)] * (x.ndim - 1)))
    return filled.reshape(-1, width, *x.shape[1:])


def side_by_side(x: Shaped[Array, "S *rows C"], width: int) -> Shaped[Array, "*rows {width}"]:
    """Joins strips along the width, without the zeros that fill up the last one."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)[..., :width]


def rows_from(
    x: Float[Array, "N h w"], first: Int[Array, ""], weights: Float[Array, "*B R b"]
) -> Float[Array, "N b w"]:
    """Returns the rows of logits that a block's weights apply to; `first` is the upper one."""
    return jax.lax.dynamic_slice_in_dim(x, first, weights.shape[-1], axis=1)


def upsample(
    logits: Float[Array, "N h w"], plan: Upsampling, columns: Neighbours
) -> Float[Array, "N H C"]:
    """Returns logits at the size of the canvas, in all rows of a strip of it.

    Args:
        logits: of some masks.
        plan: the whole plan.
        columns: the strip's part of it, as `over_strips` gives it.
    """
    first_row, rows = rows_in_blocks(logits.shape[1], plan.rows)
    few_columns = columns_in_blocks(columns, logits.shape[2], len(plan.columns.first))
    wide = widen(logits, few_columns)
    few = jax.vmap(lambda first: rows_from(wide, first, rows), out_axes=1)(first_row)
    return jax.lax.collapse(combine_rows(rows, few), 1, 3)


def widen(x: Float[Array, "N b w"], columns: Columns) -> Float[Array, "N b C"]:
    """Returns rows of logits at the columns of a strip."""
    first, weights = columns
    needed = weights.shape[-1]
    few = jax.vmap(lambda first: jax.lax.dynamic_slice_in_dim(x, first, needed, axis=2))(first)
    return jax.lax.collapse(jnp.einsum("DEe,DNbe->NbDE", weights, few), 2, 4)


def combine_rows(
    weights: Float[Array, "*B R b"], x: Float[Array, "N *B b W"]
) -> Float[Array, "N *B R W"]:
    """Returns output rows, each a weighted sum of rows of logits."""
    # With an axis of masks on the weights; without it, XLA would transpose the masks.
    weights = jnp.broadcast_to(weights, (len(x), *weights.shape))
    return jnp.einsum("n...Rb,n...bW->n...RW", weights, x)


def score_columns(
    plan: ScoreUpsampling, output_columns: Neighbours, width: int
) -> tuple[Columns, Columns]:
    """Returns what a strip of output columns depends on, by way of the padded size.

    Args:
        plan: the whole plan.
        output_columns: the strip's part of it.
        width: of the logits, in columns.

    Returns:
        Those columns at the padded size that the strip depends on, made of the logits' columns; and
        the strip's columns, made of the former.
    """
    padded, canvas = len(plan.columns.first), len(plan.output_columns.first)
    count = _reach(len(output_columns.first), padded, canvas)
    start = jnp.minimum(output_columns.first[0], padded - count)
    few = (jax.lax.dynamic_slice_in_dim(jnp.asarray(x), start, count) for x in plan.columns)
    of_few = output_columns._replace(first=output_columns.first - start)
    return (
        columns_in_blocks(Neighbours(*few), width, padded + CANVAS_MULTIPLE - 1),  # all are filled
        _in_blocks_of(min(count, _reach(COLUMNS_AT_ONCE, padded, canvas)), of_few, count),
    )
