"""Turns predictions into instances, a panoptic map or a semantic map, as the authors' code does.

These are pure functions of one image's predictions, compiled for the device. Masks are upsampled to
the output a few at a time, or a few rows of all of them; an array of floats of queries x height x
width never exists.

Axes: Q queries, K classes (K1 with "no object"), V videos, T frames, h w the logits' size, H W the
canvas (W8 its width in bytes of eight pixels), N selected instances, R rows of a block of the
canvas, C columns of a strip.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from m2f_jax.inference.upsampling import (
    Columns,
    ScoreUpsampling,
    Upsampling,
    columns_from,
    combine_rows,
    in_blocks,
    over_strips,
    rows_from,
    rows_in_blocks,
    side_by_side,
    strip_logits,
    widen,
)

INSTANCES_AT_ONCE = 4
LARGE_CANVAS = 2**23  # pixels; on larger ones, masks are upsampled one at a time


class Instances(NamedTuple):
    """The best query-class pairs; masks are packed eight pixels to a byte along the width."""

    class_probs: Float[Array, "N"]  # descending
    scores: Float[Array, "N"]  # class probability x mean mask probability inside the mask
    labels: Int[Array, "N"]
    queries: Int[Array, "N"]
    packed_masks: UInt8[Array, "N H W8"]


def _in_full_precision(function):
    """Runs a function at full float32 precision, so that thresholds decide as the authors' do."""

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
    """Returns the best `top_k` pairs of query and class: the authors' `instance_inference`.

    A score never exceeds its class probability. So where the class probability is under
    `threshold`, no mask is computed: it stays empty, with a score of 0.
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
            logits = strip_logits(chosen_logits, columns, first_row, rows)
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
    """Returns the best `top_k` pairs of query and class; a query may have several classes."""
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
    """Returns the packed masks of some queries in one frame of one video, as in `Instances`.

    One frame at a time, a video's results take no more memory than their bits.
    """
    height, width = len(plan.inside_rows), len(plan.inside_columns)
    at_once = min(len(queries), INSTANCES_AT_ONCE if height * width <= LARGE_CANVAS else 1)
    filled = jnp.pad(queries, (0, -len(queries) % at_once), mode="edge").reshape(-1, at_once)
    first_row, rows = rows_in_blocks(mask_logits.shape[3], plan.rows)

    def chunk(queries: Int[Array, "n"]) -> UInt8[Array, "n H W8"]:
        chosen = mask_logits[video, queries, frame]

        def strip(columns: Columns):
            return jnp.packbits(strip_logits(chosen, columns, first_row, rows) > 0, axis=-1)

        return side_by_side(over_strips(strip, chosen.shape[2], plan.columns), width // 8)

    return jax.lax.collapse(jax.lax.map(chunk, filled), 0, 2)[: len(queries)]


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
            logits = combine_rows(rows, widen(rows_from(mask_logits, first, rows), columns))
            return _class_scores(class_logits, logits).argmax(axis=0)

        return jax.lax.collapse(jax.lax.map(block, blocks), 0, 2)

    strips = over_strips(strip, mask_logits.shape[2], plan.columns)
    return side_by_side(strips, len(plan.columns.first))


@jax.jit
@_in_full_precision
def semantic_map_from_scores(
    class_logits: Float[Array, "Q K1"], mask_logits: Float[Array, "Q h w"], plan: ScoreUpsampling
) -> Int[Array, "H W"]:
    """Returns every pixel's best class, from class scores computed at the padded size.

    As the authors do for models that are trained for semantic segmentation alone.
    """
    rows = rows_in_blocks(mask_logits.shape[1], plan.upper_rows, plan.lower_rows)
    blocks = (*rows, in_blocks(plan.lower_weight))

    def strip(output_columns: Columns) -> Int[Array, "H C"]:
        needed = output_columns.weights.shape[-1]
        columns = columns_from(plan.columns, mask_logits.shape[2], output_columns.first, needed)

        def block(arrays) -> Int[Array, "R C"]:
            first, *two_rows, weight = arrays
            wide = widen(rows_from(mask_logits, first, two_rows[0]), columns)
            upper, lower = (_class_scores(class_logits, combine_rows(x, wide)) for x in two_rows)
            between = upper + (lower - upper) * weight[:, None]
            return jnp.einsum("kRx,Wx->kRW", between, output_columns.weights).argmax(axis=0)

        return jax.lax.collapse(jax.lax.map(block, blocks), 0, 2)

    strips = over_strips(strip, len(plan.columns.first), plan.output_columns)
    return side_by_side(strips, len(plan.output_columns.first))


class Panoptic(NamedTuple):
    """A panoptic map and, for every query, the id of the segment that it became part of."""

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
    each pixel by score x mask probability. The pixels that a query wins are its segment; in
    Mask2Former (`inside_masks`), only those with a mask probability of at least 0.5. A segment is
    dropped if its query wins less than `overlap_threshold` of its own mask. Segments of one stuff
    class share an id; ids count from 1 in the order of the queries, and 0 is no segment.
    """
    num_classes = is_thing.shape[0]
    probs = jax.nn.softmax(class_logits, axis=-1)
    scores, labels = probs.max(axis=-1), probs.argmax(axis=-1)
    kept = (labels != num_classes) & (scores > object_mask_threshold)
    queries = jnp.arange(len(scores))[:, None, None]
    blocks = (*rows_in_blocks(mask_logits.shape[1], plan.rows), in_blocks(plan.inside_rows))

    def strip(columns: Columns, inside_columns: Bool[Array, "C"]):
        def block(arrays):
            first, rows, inside_rows = arrays
            logits = combine_rows(rows, widen(rows_from(mask_logits, first, rows), columns))
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
