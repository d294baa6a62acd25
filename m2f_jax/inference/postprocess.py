"""Turns predictions into instances, a panoptic map or a semantic map, as the authors' code does.

These are pure functions of one image's predictions, compiled for the device. Mask logits are
resized to the padded input, cropped, and resized to the original size. Along an axis, all of that
is a weighted sum of three neighbours. Their indices and weights are arguments, so one compilation
serves every image whose output fits the same canvas. The device applies them as products of small
matrices, to the few rows of logits that a block of output rows depends on, and likewise to the
columns of a strip. Masks are upsampled a few at a time, or a few rows of all of them; an array of
floats of queries x height x width never exists.

Axes: Q queries, K classes (and "no object" where said), h w the logits' size, H W the canvas,
N selected instances, B blocks of R rows of the canvas, b rows of logits that such a block needs,
S strips of C columns of the canvas, c columns of logits that such a strip needs.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Shaped, UInt8

from m2f_jax.ops.resize import Band, bilinear_band, bilinear_taps, resize_rows
from m2f_jax.structures import ImageSize, Size

CANVAS_MULTIPLE = 128  # outputs are computed on canvases of such sides, then cropped
INSTANCES_AT_ONCE = 4
LARGE_CANVAS = 2**23  # pixels; on larger ones, masks are upsampled one at a time
ROWS_AT_ONCE = 32
COLUMNS_AT_ONCE = 8192  # wider outputs are computed in strips

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
    """The plan of models for semantic maps alone: class scores are computed at the padded size."""

    upper_rows: Neighbours  # H of h: the upper of two padded rows that an output row lies between
    lower_rows: Neighbours
    lower_weight: Float[AnyArray, "H"]
    columns: Neighbours  # Wp of w
    output_columns: Neighbours  # W of Wp


def canvas_size(size: Size) -> Size:
    """Returns the size of the canvas for an output: both sides rounded up."""
    height, width = size
    return height + -height % CANVAS_MULTIPLE, width + -width % CANVAS_MULTIPLE


def _to_canvas(x: np.ndarray, canvas: int) -> np.ndarray:
    """Appends rows of zeros up to the canvas."""
    return np.pad(x, ((0, canvas - len(x)), *[(0, 0)] * (x.ndim - 1)))


def _neighbours(band: Band, source: int, canvas: int) -> Neighbours:
    """Returns the weights by which an axis of `source` samples is resized, in float32.

    A bilinear step takes two neighbours, and so does another one before it, which lie next to each
    other unless that one shrinks the axis: three in all.
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
def upsampling(logits: Size, size: ImageSize, target: Size) -> Upsampling:
    """Returns the plan of three steps: bilinear to the padded input, crop, bilinear to `target`.

    Images of one size share the arrays, which mustn't be written to.

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
def score_upsampling(logits: Size, size: ImageSize, target: Size) -> ScoreUpsampling:
    """Returns the plan of the same steps with class scores computed after the first one.

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


class Instances(NamedTuple):
    """The best query-class pairs; masks are packed eight pixels to a byte along the width."""

    class_probs: Float[Array, "N"]  # descending
    scores: Float[Array, "N"]  # class probability x mean mask probability inside the mask
    labels: Int[Array, "N"]
    queries: Int[Array, "N"]
    packed_masks: UInt8[Array, "N H W8"]


def _in_full_precision(function):
    """Runs at full float32 precision: thresholds must fall where the authors' do."""

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with jax.default_matmul_precision("highest"):
            return function(*args, **kwargs)

    return wrapped


@functools.partial(jax.jit, static_argnames="top_k")
@_in_full_precision
def instances(
    class_logits: Float[Array, "Q K1"],
    mask_logits: Float[Array, "Q h w"],
    plan: Upsampling,
    threshold: Float[Array, ""],
    *,
    top_k: int,
) -> Instances:
    """Returns the best `top_k` of queries x classes: the authors' `instance_inference`.

    A score never exceeds its class probability, so masks of pairs whose class probability is under
    `threshold` aren't computed; their masks are empty and their scores 0.
    """
    probs, labels, queries = best_pairs(class_logits, top_k=top_k)
    top_k = len(probs)
    wanted = jnp.sum(probs >= threshold)
    height, width = len(plan.inside_rows), len(plan.inside_columns)
    at_once = min(top_k, INSTANCES_AT_ONCE if height * width <= LARGE_CANVAS else 1)
    first_row, rows = rows_in_blocks(mask_logits.shape[1], plan.rows)

    def add_chunk(i, state):
        mask_probs, packed = state
        first = jnp.minimum(i * at_once, top_k - at_once)
        chosen = jax.lax.dynamic_slice_in_dim(queries, first, at_once)
        chosen_logits = mask_logits[chosen]

        def strip(columns: Columns):
            logits = _strip_logits(chosen_logits, columns, first_row, rows)
            masks = logits > 0
            inside = jnp.sum(jnp.where(masks, jax.nn.sigmoid(logits), 0), axis=(1, 2))
            return inside, jnp.sum(masks, axis=(1, 2)), jnp.packbits(masks, axis=-1)

        inside, areas, bits = over_strips(strip, mask_logits.shape[2], plan.columns)
        mean = inside.sum(axis=0) / (areas.sum(axis=0) + 1e-6)
        bits = side_by_side(bits, width // 8)
        return (
            jax.lax.dynamic_update_slice_in_dim(mask_probs, mean, first, axis=0),
            jax.lax.dynamic_update_slice_in_dim(packed, bits, first, axis=0),
        )

    state = jnp.zeros(top_k), jnp.zeros((top_k, height, width // 8), jnp.uint8)
    num_chunks = -(-wanted // at_once)
    mask_probs, packed = jax.lax.fori_loop(0, num_chunks, add_chunk, state)
    return Instances(probs, probs * mask_probs, labels, queries, packed)


class Pairs(NamedTuple):
    """The best pairs of a query and a class."""

    probs: Float[Array, "N"]  # of the class; descending
    labels: Int[Array, "N"]
    queries: Int[Array, "N"]


@functools.partial(jax.jit, static_argnames="top_k")
def best_pairs(class_logits: Float[Array, "Q K1"], *, top_k: int) -> Pairs:
    """Returns the best `top_k` of queries x classes, without "no object"; a query may repeat."""
    class_probs = jax.nn.softmax(class_logits, axis=-1)[:, :-1]
    probs, pairs = jax.lax.top_k(class_probs.ravel(), min(top_k, class_probs.size))
    queries, labels = jnp.divmod(pairs, class_probs.shape[1])
    return Pairs(probs, labels, queries)


@jax.jit
@_in_full_precision
def frame_masks(
    mask_logits: Float[Array, "V Q T h w"],
    video: Int[Array, ""],
    frame: Int[Array, ""],
    queries: Int[Array, "N"],
    plan: Upsampling,
) -> UInt8[Array, "N H W8"]:
    """Returns the masks of some queries in one frame of one of V videos, as `Instances` has them.

    So a video takes no more memory for its results than their bits.
    """
    height, width = len(plan.inside_rows), len(plan.inside_columns)
    at_once = min(len(queries), INSTANCES_AT_ONCE if height * width <= LARGE_CANVAS else 1)
    filled = jnp.pad(queries, (0, -len(queries) % at_once), mode="edge").reshape(-1, at_once)
    first_row, rows = rows_in_blocks(mask_logits.shape[3], plan.rows)

    def chunk(queries: Int[Array, "n"]) -> UInt8[Array, "n H W8"]:
        chosen = mask_logits[video, queries, frame]

        def strip(columns: Columns):
            return jnp.packbits(_strip_logits(chosen, columns, first_row, rows) > 0, axis=-1)

        return side_by_side(over_strips(strip, chosen.shape[2], plan.columns), width // 8)

    return jax.lax.collapse(jax.lax.map(chunk, filled), 0, 2)[: len(queries)]


def to_matrix(
    neighbours: Neighbours, source: int, start: int | Int[Array, ""] = 0
) -> Float[Array, "samples {source}"]:
    """Returns the weights of `source` samples from `start` on as a matrix, in float32."""
    first, weights = neighbours
    tap = start + jnp.arange(source) - first[:, None]
    matrix = jnp.zeros(tap.shape, weights.dtype)
    for i in range(weights.shape[1]):
        matrix = jnp.where(tap == i, weights[:, i, None], matrix)
    return matrix


def _blocks(x: AnyArray) -> AnyArray:
    """Returns the rows of the canvas in blocks of `ROWS_AT_ONCE`."""
    return x.reshape(-1, ROWS_AT_ONCE, *x.shape[1:])


def rows_in_blocks(
    height: int, *rows: Neighbours
) -> tuple[Int[Array, "B"], *tuple[Float[Array, "B R b"], ...]]:
    """Returns which rows of logits each block of output rows depends on, and their weights.

    Args:
        height: of the logits.
        rows: the neighbours of each output row; those given first lie above the others.

    Returns:
        The index of each block's first row, and for each of `rows` the weights from there on.
    """
    canvas = len(rows[0].first)
    # Between the first and the last row of a block lie at most so many of the logits, since the
    # output fills the canvas but for a multiple. Each bilinear step needs a row more on both sides.
    between = -(-(ROWS_AT_ONCE - 1) * height // (canvas - CANVAS_MULTIPLE + 1))
    needed = min(height, between + 5)
    first = jnp.minimum(rows[0].first[::ROWS_AT_ONCE], height - needed)
    in_blocks = jax.vmap(functools.partial(to_matrix, source=needed))
    return first, *(in_blocks(jax.tree.map(_blocks, x), start=first) for x in rows)


class Columns(NamedTuple):
    """What a strip of output columns depends on: columns of logits from `first` on, and weights."""

    first: Int[Array, ""]
    weights: Float[Array, "C c"]


def over_strips(
    function: Callable[..., Any], width: int, columns: Neighbours, *more: AnyArray
) -> Any:
    """Returns what a function makes of each strip of output columns, along a first axis.

    Args:
        function: takes the strip's `Columns` of the logits, and its part of `more`.
        width: of the logits.
        columns: the neighbours of each output column.
        more: arrays with a row for each output column.
    """
    canvas = len(columns.first)
    if canvas <= COLUMNS_AT_ONCE:  # without a loop, and from all columns of the logits
        alone = function(Columns(jnp.int32(0), to_matrix(columns, width)), *more)
        return jax.tree.map(lambda x: x[None], alone)
    between = -(-(COLUMNS_AT_ONCE - 1) * width // (canvas - CANVAS_MULTIPLE + 1))
    needed = min(width, between + 5)  # as for blocks of rows

    def strip(arrays):
        columns, more = arrays
        first = jnp.minimum(columns.first[0], width - needed)
        return function(Columns(first, to_matrix(columns, needed, first)), *more)

    return jax.lax.map(strip, jax.tree.map(_strips, (columns, more)))


def _strips(x: AnyArray) -> Array:
    """Returns the columns of the canvas in strips; the last one is filled up with zeros."""
    filled = jnp.pad(x, ((0, -len(x) % COLUMNS_AT_ONCE), *[(0, 0)] * (x.ndim - 1)))
    return filled.reshape(-1, COLUMNS_AT_ONCE, *x.shape[1:])


def side_by_side(x: Shaped[Array, "S *rows C"], width: int) -> Shaped[Array, "*rows {width}"]:
    """Returns strips as one array, without what fills up the last of them."""
    x = jnp.moveaxis(x, 0, -2)
    return x.reshape(*x.shape[:-2], -1)[..., :width]


def _rows_from(
    x: Float[Array, "N h w"], first: Int[Array, ""], weights: Float[Array, "*B R b"]
) -> Float[Array, "N b w"]:
    """Returns the rows of logits that belong to a block's weights."""
    return jax.lax.dynamic_slice_in_dim(x, first, weights.shape[-1], axis=1)


def _strip_logits(
    logits: Float[Array, "N h w"],
    columns: Columns,
    first_row: Int[Array, "B"],
    rows: Float[Array, "B R b"],
) -> Float[Array, "N H C"]:
    """Returns a strip of all output rows."""
    wide = _widen(logits, columns)
    few = jax.vmap(lambda first: _rows_from(wide, first, rows), out_axes=1)(first_row)
    return jax.lax.collapse(_combine_rows(rows, few), 1, 3)


def _widen(x: Float[Array, "N b w"], columns: Columns) -> Float[Array, "N b C"]:
    needed = columns.weights.shape[-1]
    if needed < x.shape[2]:
        x = jax.lax.dynamic_slice_in_dim(x, columns.first, needed, axis=2)
    return jnp.einsum("nbw,Ww->nbW", x, columns.weights)


def _combine_rows(
    weights: Float[Array, "*B R b"], x: Float[Array, "N *B b W"]
) -> Float[Array, "N *B R W"]:
    """Returns output rows; the weights get an axis of masks, or XLA would transpose the masks."""
    weights = jnp.broadcast_to(weights, (len(x), *weights.shape))
    return jnp.einsum("n...Rb,n...bW->n...RW", weights, x)


def _class_scores(
    class_logits: Float[Array, "Q K1"], logits: Float[Array, "Q R W"]
) -> Float[Array, "K R W"]:
    class_probs = jax.nn.softmax(class_logits, axis=-1)[:, :-1]
    return jnp.einsum("qk,qRW->kRW", class_probs, jax.nn.sigmoid(logits))


@jax.jit
@_in_full_precision
def semantic_map(
    class_logits: Float[Array, "Q K1"], mask_logits: Float[Array, "Q h w"], plan: Upsampling
) -> Int[Array, "H W"]:
    """Returns every pixel's best class: the authors' `semantic_inference` at the output size."""
    blocks = rows_in_blocks(mask_logits.shape[1], plan.rows)

    def strip(columns: Columns) -> Int[Array, "H C"]:
        def block(arrays) -> Int[Array, "R C"]:
            first, rows = arrays
            logits = _combine_rows(rows, _widen(_rows_from(mask_logits, first, rows), columns))
            return _class_scores(class_logits, logits).argmax(axis=0)

        return jax.lax.collapse(jax.lax.map(block, blocks), 0, 2)

    strips = over_strips(strip, mask_logits.shape[2], plan.columns)
    return side_by_side(strips, len(plan.columns.first))


@jax.jit
@_in_full_precision
def semantic_map_from_scores(
    class_logits: Float[Array, "Q K1"], mask_logits: Float[Array, "Q h w"], plan: ScoreUpsampling
) -> Int[Array, "H W"]:
    """Returns the same for models of semantic maps alone, from scores at the padded size."""
    rows = rows_in_blocks(mask_logits.shape[1], plan.upper_rows, plan.lower_rows)
    blocks = (*rows, _blocks(plan.lower_weight))

    def strip(output_columns: Columns) -> Int[Array, "H C"]:
        needed = output_columns.weights.shape[-1]
        columns = _part_of(plan.columns, mask_logits.shape[2], output_columns.first, needed)

        def block(arrays) -> Int[Array, "R C"]:
            first, *two_rows, weight = arrays
            wide = _widen(_rows_from(mask_logits, first, two_rows[0]), columns)
            upper, lower = (_class_scores(class_logits, _combine_rows(x, wide)) for x in two_rows)
            between = upper + (lower - upper) * weight[:, None]
            return jnp.einsum("kRx,Wx->kRW", between, output_columns.weights).argmax(axis=0)

        return jax.lax.collapse(jax.lax.map(block, blocks), 0, 2)

    strips = over_strips(strip, len(plan.columns.first), plan.output_columns)
    return side_by_side(strips, len(plan.output_columns.first))


def _part_of(columns: Neighbours, width: int, start: Int[Array, ""], count: int) -> Columns:
    """Returns what `count` output columns from `start` on depend on; `width` is the logits'."""
    if count == len(columns.first):
        return Columns(start, to_matrix(columns, width))
    part = Neighbours(*(jax.lax.dynamic_slice_in_dim(x, start, count) for x in columns))
    needed = min(width, -(-count * width // len(columns.first)) + 5)
    first = jnp.minimum(part.first[0], width - needed)
    return Columns(first, to_matrix(part, needed, first))


class Panoptic(NamedTuple):
    """A panoptic map and, for every query, the segment that it became part of (0: none)."""

    segment_map: Int[Array, "H W"]
    segment_ids: Int[Array, "Q"]
    labels: Int[Array, "Q"]
    scores: Float[Array, "Q"]


@functools.partial(jax.jit, static_argnames="inside_masks")
@_in_full_precision
def panoptic_map(
    class_logits: Float[Array, "Q K1"],
    mask_logits: Float[Array, "Q h w"],
    plan: Upsampling,
    is_thing: Bool[Array, "K"],
    object_mask_threshold: Float[Array, ""],
    overlap_threshold: Float[Array, ""],
    *,
    inside_masks: bool = True,
) -> Panoptic:
    """Returns a panoptic map: the authors' `panoptic_inference`.

    Queries whose best class is an object with a score above `object_mask_threshold` compete for
    each pixel by score x mask probability. A segment is what its query owns, of Mask2Former
    (`inside_masks`) only with a probability of at least 0.5; it is dropped if the query owns less
    than `overlap_threshold` of its own mask. Segments of one stuff class share an id; ids count
    from 1 in the order of the queries.
    """
    num_classes = is_thing.shape[0]
    probs = jax.nn.softmax(class_logits, axis=-1)
    scores, labels = probs.max(axis=-1), probs.argmax(axis=-1)
    kept = (labels != num_classes) & (scores > object_mask_threshold)
    queries = jnp.arange(len(scores))[:, None, None]
    blocks = (*rows_in_blocks(mask_logits.shape[1], plan.rows), _blocks(plan.inside_rows))

    def strip(columns: Columns, inside_columns: Bool[Array, "C"]):
        def block(arrays):
            first, rows, inside_rows = arrays
            logits = _combine_rows(rows, _widen(_rows_from(mask_logits, first, rows), columns))
            inside = inside_rows[:, None] & inside_columns
            bid = jnp.where(kept[:, None, None], scores[:, None, None] * jax.nn.sigmoid(logits), -1)
            owner = bid.argmax(axis=0)
            owned = (queries == owner) & inside
            mask = (jax.nn.sigmoid(logits) >= 0.5) & inside
            segment = owned & mask if inside_masks else owned
            areas = [x.sum(axis=(1, 2)) for x in (owned, mask, segment)]
            return owner, segment.any(axis=0), areas

        owner, visible, areas = jax.lax.map(block, blocks)
        return *(jax.lax.collapse(x, 0, 2) for x in (owner, visible)), [x.sum(0) for x in areas]

    owner, visible, areas = over_strips(
        strip, mask_logits.shape[2], plan.columns, plan.inside_columns
    )
    owner, visible = (side_by_side(x, len(plan.inside_columns)) for x in (owner, visible))
    owned_area, mask_area, segment_area = (area.sum(axis=0) for area in areas)
    ratio = owned_area / jnp.maximum(mask_area, 1)
    valid = kept & (segment_area > 0) & (mask_area > 0) & (ratio >= overlap_threshold)

    thing = is_thing[jnp.minimum(labels, num_classes - 1)]
    same_stuff = valid & valid[:, None] & (labels == labels[:, None])
    first_of_stuff = jnp.argmax(same_stuff, axis=1)
    leader = jnp.where(thing, jnp.arange(len(labels)), first_of_stuff)
    new_segment = valid & (leader == jnp.arange(len(labels)))
    segment_ids = jnp.where(valid, jnp.cumsum(new_segment)[leader], 0)
    segment_map = jnp.where(visible, segment_ids[owner], 0)
    return Panoptic(segment_map.astype(jnp.int32), segment_ids, labels, scores)
