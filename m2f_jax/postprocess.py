"""Predictions to instances, a panoptic map or a semantic map, as the authors' inference does it.

Pure functions of one image's predictions, compiled and on the device. Mask logits reach the output
through three linear steps along each axis: up to the padded input, without the padding, and to the
original size. Their product is one small matrix per axis, so sizes are data, not shapes: one
compilation serves every image whose output fits the same canvas. Masks are upsampled a few at a
time, or a few rows of all of them; no array of floats of queries x height x width ever exists.

Axes: Q queries, K classes (and "no object" where said), h w the logits' size, H W the canvas,
N selected instances, R rows of a block.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt8

from m2f_jax.ops.resize import bilinear_matrix, bilinear_taps, resize_rows
from m2f_jax.structures import ImageSize, Size

CANVAS_MULTIPLE = 128  # outputs are computed on canvases of such sides, then cropped
INSTANCES_AT_ONCE = 4
ROWS_AT_ONCE = 32

AnyArray = Array | np.ndarray


class Upsampling(NamedTuple):
    """The way from mask logits to the output, as matrices that are zero beyond the output."""

    rows: Float[AnyArray, "H h"]
    columns: Float[AnyArray, "W w"]
    inside_rows: Bool[AnyArray, "H"]
    inside_columns: Bool[AnyArray, "W"]


class ScoreUpsampling(NamedTuple):
    """The way by the padded input, where semantic-only models compute class scores."""

    rows: Float[AnyArray, "H 2 h"]  # the two padded rows that an output row lies between
    second_row_weight: Float[AnyArray, "H"]
    columns: Float[AnyArray, "Wp w"]
    output_columns: Float[AnyArray, "W Wp"]


def canvas_size(size: Size) -> Size:
    """The canvas for an output."""
    height, width = size
    return height + -height % CANVAS_MULTIPLE, width + -width % CANVAS_MULTIPLE


def _to_canvas(matrix: np.ndarray, canvas: int) -> np.ndarray:
    """Zero rows up to the canvas."""
    return np.pad(matrix, ((0, canvas - len(matrix)), *[(0, 0)] * (matrix.ndim - 1)))


@functools.lru_cache(maxsize=8)
def upsampling(logits: Size, size: ImageSize, target: Size) -> Upsampling:
    """Bilinear to the padded input, crop, bilinear to `target`; in float32 from float64.

    Images of one size share the arrays, which mustn't be written to.
    """
    matrices, inside = [], []
    for axis, canvas in enumerate(canvas_size(target)):
        to_padded = bilinear_matrix(logits[axis], size.padded[axis])[: size.resized[axis]]
        matrix = _to_canvas(resize_rows(to_padded, target[axis]), canvas)
        matrices.append(matrix.astype(np.float32))
        inside.append(np.arange(canvas) < target[axis])
    return Upsampling(matrices[0], matrices[1], inside[0], inside[1])


@functools.lru_cache(maxsize=8)
def score_upsampling(logits: Size, size: ImageSize, target: Size) -> ScoreUpsampling:
    """The same steps, with class scores computed after the first one; shared alike."""
    canvas = canvas_size(target)
    to_padded = [bilinear_matrix(logits[i], size.padded[i]).astype(np.float32) for i in (0, 1)]
    taps = bilinear_taps(size.resized[0], target[0])
    rows = np.stack([to_padded[0][taps.first], to_padded[0][taps.second]], axis=1)
    columns = np.zeros((canvas[1], size.padded[1]), np.float32)
    columns[: target[1], : size.resized[1]] = bilinear_matrix(size.resized[1], target[1])
    return ScoreUpsampling(
        rows=_to_canvas(rows, canvas[0]),
        second_row_weight=_to_canvas(taps.weight.astype(np.float32), canvas[0]),
        columns=to_padded[1],
        output_columns=columns,
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
    way: Upsampling,
    threshold: Float[Array, ""],
    *,
    top_k: int,
) -> Instances:
    """The authors' `instance_inference`: the best `top_k` of queries x classes.

    A score never exceeds its class probability, so masks of pairs whose class probability is under
    `threshold` aren't computed; their masks are empty and their scores 0.
    """
    class_probs = jax.nn.softmax(class_logits, axis=-1)[:, :-1]
    num_classes = class_probs.shape[1]
    top_k = min(top_k, class_probs.size)
    probs, pairs = jax.lax.top_k(class_probs.ravel(), top_k)
    queries, labels = jnp.divmod(pairs, num_classes)
    wanted = jnp.sum(probs >= threshold)

    def add_chunk(i, state):
        mask_probs, packed = state
        first = jnp.minimum(i * INSTANCES_AT_ONCE, max(top_k - INSTANCES_AT_ONCE, 0))
        chosen = jax.lax.dynamic_slice_in_dim(queries, first, min(INSTANCES_AT_ONCE, top_k))
        logits = jnp.einsum("nhw,Ww->nhW", mask_logits[chosen], way.columns)
        # In the order of axes that a matrix product gives, so that sums are always taken alike.
        logits = jnp.einsum("Hh,nhW->HnW", way.rows, logits)
        masks = logits > 0
        inside = jnp.sum(jnp.where(masks, jax.nn.sigmoid(logits), 0), axis=(0, 2))
        mean = inside / (jnp.sum(masks, axis=(0, 2)) + 1e-6)
        bits = jnp.packbits(masks, axis=-1).swapaxes(0, 1)
        return (
            jax.lax.dynamic_update_slice_in_dim(mask_probs, mean, first, axis=0),
            jax.lax.dynamic_update_slice_in_dim(packed, bits, first, axis=0),
        )

    height, width = len(way.rows), len(way.columns)
    state = jnp.zeros(top_k), jnp.zeros((top_k, height, width // 8), jnp.uint8)
    num_chunks = -(-wanted // INSTANCES_AT_ONCE)
    mask_probs, packed = jax.lax.fori_loop(0, num_chunks, add_chunk, state)
    return Instances(probs, probs * mask_probs, labels, queries, packed)


def _upsample_rows(
    mask_logits: Float[Array, "Q h w"],
    rows: Float[AnyArray, "R h"],
    columns: Float[AnyArray, "W w"],
) -> Float[Array, "Q R W"]:
    logits = jnp.einsum("qhw,Rh->qRw", mask_logits, rows)
    return jnp.einsum("qRw,Ww->qRW", logits, columns)


def _blocks(x: AnyArray) -> AnyArray:
    """Rows of the canvas in blocks of `ROWS_AT_ONCE`."""
    return x.reshape(-1, ROWS_AT_ONCE, *x.shape[1:])


def _class_scores(
    class_logits: Float[Array, "Q K1"], logits: Float[Array, "Q R W"]
) -> Float[Array, "K R W"]:
    class_probs = jax.nn.softmax(class_logits, axis=-1)[:, :-1]
    return jnp.einsum("qk,qRW->kRW", class_probs, jax.nn.sigmoid(logits))


@jax.jit
@_in_full_precision
def semantic_map(
    class_logits: Float[Array, "Q K1"], mask_logits: Float[Array, "Q h w"], way: Upsampling
) -> Int[Array, "H W"]:
    """The authors' `semantic_inference` at the output size: every pixel's best class."""

    def block(rows: Float[Array, "R h"]) -> Int[Array, "R W"]:
        logits = _upsample_rows(mask_logits, rows, way.columns)
        return _class_scores(class_logits, logits).argmax(axis=0)

    return jax.lax.collapse(jax.lax.map(block, _blocks(way.rows)), 0, 2)


@jax.jit
@_in_full_precision
def semantic_map_from_scores(
    class_logits: Float[Array, "Q K1"], mask_logits: Float[Array, "Q h w"], way: ScoreUpsampling
) -> Int[Array, "H W"]:
    """The same for semantic-only models: scores at the padded size, then resized."""

    def block(arrays: tuple[Float[Array, "R 2 h"], Float[Array, "R"]]) -> Int[Array, "R W"]:
        rows, weight = arrays
        scores = [
            _class_scores(class_logits, _upsample_rows(mask_logits, rows[:, i], way.columns))
            for i in (0, 1)
        ]
        between = scores[0] + (scores[1] - scores[0]) * weight[:, None]
        return jnp.einsum("kRx,Wx->kRW", between, way.output_columns).argmax(axis=0)

    blocks = (_blocks(way.rows), _blocks(way.second_row_weight))
    return jax.lax.collapse(jax.lax.map(block, blocks), 0, 2)


class Panoptic(NamedTuple):
    """A panoptic map and, for every query, the segment that it became part of (0: none)."""

    segment_map: Int[Array, "H W"]
    segment_ids: Int[Array, "Q"]
    labels: Int[Array, "Q"]
    scores: Float[Array, "Q"]


@jax.jit
@_in_full_precision
def panoptic_map(
    class_logits: Float[Array, "Q K1"],
    mask_logits: Float[Array, "Q h w"],
    way: Upsampling,
    is_thing: Bool[Array, "K"],
    object_mask_threshold: Float[Array, ""],
    overlap_threshold: Float[Array, ""],
) -> Panoptic:
    """The authors' `panoptic_inference`.

    Queries whose best class is an object with a score above `object_mask_threshold` compete for
    each pixel by score x mask probability. A segment is what its query owns with a probability of
    at least 0.5; it is dropped if the query owns less than `overlap_threshold` of its own mask.
    Segments of one stuff class share an id; ids count from 1 in the order of the queries.
    """
    num_classes = is_thing.shape[0]
    probs = jax.nn.softmax(class_logits, axis=-1)
    scores, labels = probs.max(axis=-1), probs.argmax(axis=-1)
    kept = (labels != num_classes) & (scores > object_mask_threshold)
    queries = jnp.arange(len(scores))[:, None, None]

    def block(arrays: tuple[Float[Array, "R h"], Bool[Array, "R"]]):
        rows, inside_rows = arrays
        logits = _upsample_rows(mask_logits, rows, way.columns)
        inside = inside_rows[:, None] & way.inside_columns
        bid = jnp.where(kept[:, None, None], scores[:, None, None] * jax.nn.sigmoid(logits), -1)
        owner = bid.argmax(axis=0)
        owned = (queries == owner) & inside
        mask = (jax.nn.sigmoid(logits) >= 0.5) & inside
        areas = [x.sum(axis=(1, 2)) for x in (owned, mask, owned & mask)]
        return owner, (owned & mask).any(axis=0), areas

    owner, visible, areas = jax.lax.map(block, (_blocks(way.rows), _blocks(way.inside_rows)))
    owned_area, mask_area, segment_area = (area.sum(axis=0) for area in areas)
    ratio = owned_area / jnp.maximum(mask_area, 1)
    valid = kept & (segment_area > 0) & (ratio >= overlap_threshold)

    thing = is_thing[jnp.minimum(labels, num_classes - 1)]
    same_stuff = valid & valid[:, None] & (labels == labels[:, None])
    first_of_stuff = jnp.argmax(same_stuff, axis=1)
    leader = jnp.where(thing, jnp.arange(len(labels)), first_of_stuff)
    new_segment = valid & (leader == jnp.arange(len(labels)))
    segment_ids = jnp.where(valid, jnp.cumsum(new_segment)[leader], 0)
    segment_map = jnp.where(visible, segment_ids[owner], 0)
    return Panoptic(
        jax.lax.collapse(segment_map, 0, 2).astype(jnp.int32), segment_ids, labels, scores
    )
