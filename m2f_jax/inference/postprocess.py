"""Turns predictions into instances, a panoptic map or a semantic map, as the authors' code does.

These are pure functions of one image's predictions, compiled for the device. Masks are upsampled to
the output a few at a time, or a few rows of all of them; an array of floats of queries x height x
width never exists.

Axes: Q queries, K classes (K1 with "no object"), V videos, T frames, h w the logits' size, H W the
canvas (W8 its width in bytes of eight pixels), N selected instances, M masks of them, R rows of a
block of the canvas, C columns of a strip.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, UInt8

from m2f_jax.inference.upsampling import (
    Neighbours,
    ScoreUpsampling,
    Upsampling,
    columns_in_blocks,
    combine_rows,
    in_blocks,
    over_strips,
    rows_from,
    rows_in_blocks,
    score_columns,
    side_by_side,
    upsample,
    widen,
)
from m2f_jax.ops.argmax import argmax_of_maps

QUERIES_AT_ONCE = 4  # whose masks are upsampled together


class Instances(NamedTuple):
    """The best query-class pairs, several of which may share a query and its mask."""

    class_probs: Float[Array, "N"]  # descending
    scores: Float[Array, "N"]  # class probability x mean mask probability inside the mask
    labels: Int[Array, "N"]
    queries: Int[Array, "N"]
    masks: Int[Array, "N"]  # index of each one's mask
    packed_masks: UInt8[Array, "M H W8"]  # eight pixels to a byte along the width


def _in_front(chosen: Bool[Array, "Q"]) -> Int[Array, "Q"]:
    """Returns the indices of all queries: the chosen ones, then the others, both ascending."""
    index = jnp.arange(len(chosen))
    return jnp.argsort(jnp.where(chosen, index, index + len(chosen)), stable=False)


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

    A query's mask is computed once. A score never exceeds its class probability. So where the class
    probability is under `threshold`, no mask is computed: it is the last one, which is empty, with
    a score of 0.
    """
    probs, labels, queries = best_pairs(class_logits, top_k=top_k)
    wanted = probs >= threshold
    is_its = queries[:, None] == jnp.arange(len(mask_logits))
    used = jnp.any(is_its & wanted[:, None], axis=0)
    order = _in_front(used)
    empty = min(is_its.shape)  # no more queries than that are used
    masks = jnp.where(wanted, jnp.cumsum(used)[queries] - 1, empty)

    height, width = len(plan.inside_rows), len(plan.inside_columns)
    at_once = min(empty, QUERIES_AT_ONCE)

    def add_chunk(i, state):
        mask_probs, packed = state
        first = jnp.minimum(i * at_once, empty - at_once)
        chosen_logits = mask_logits[jax.lax.dynamic_slice_in_dim(order, first, at_once)]

        def strip(columns: Neighbours):
            logits = upsample(chosen_logits, plan, columns)
            mask = logits > 0
            inside = jnp.sum(jnp.where(mask, jax.nn.sigmoid(logits), 0), axis=(1, 2))
            return inside, jnp.sum(mask, axis=(1, 2)), jnp.packbits(mask, axis=-1)

        inside, areas, bits = over_strips(strip, len(plan.inside_rows), plan.columns)
        mean = inside.sum(axis=0) / (areas.sum(axis=0) + 1e-6)
        bits = side_by_side(bits, width // 8)
        return (
            jax.lax.dynamic_update_slice_in_dim(mask_probs, mean, first, axis=0),
            jax.lax.dynamic_update_slice_in_dim(packed, bits, first, axis=0),
        )

    state = jnp.zeros(empty + 1), jnp.zeros((empty + 1, height, width // 8), jnp.uint8)
    num_chunks = -(-jnp.sum(used) // at_once)
    mask_probs, packed = jax.lax.fori_loop(0, num_chunks, add_chunk, state)
    return Instances(probs, probs * mask_probs[masks], labels, queries, masks, packed)


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
    at_once = min(len(queries), QUERIES_AT_ONCE)
    filled = jnp.pad(queries, (0, -len(queries) % at_once), mode="edge").reshape(-1, at_once)

    def chunk(queries: Int[Array, "n"]) -> UInt8[Array, "n H W8"]:
        chosen = mask_logits[video, queries, frame]

        def strip(columns: Neighbours):
            return jnp.packbits(upsample(chosen, plan, columns) > 0, axis=-1)

        return side_by_side(
            over_strips(strip, len(plan.inside_rows), plan.columns), len(plan.inside_columns) // 8
        )

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
    width = len(plan.columns.first)

    def strip(neighbours: Neighbours) -> Int[Array, "H C"]:
        columns = columns_in_blocks(neighbours, mask_logits.shape[2], width)

        def block(arrays) -> Int[Array, "R C"]:
            first, rows = arrays
            logits = combine_rows(rows, widen(rows_from(mask_logits, first, rows), columns))
            return argmax_of_maps(_class_scores(class_logits, logits))

        return jax.lax.collapse(jax.lax.map(block, blocks), 0, 2)

    return side_by_side(over_strips(strip, len(plan.inside_rows), plan.columns), width)


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

    def strip(output_columns: Neighbours) -> Int[Array, "H C"]:
        padded_columns, columns = score_columns(plan, output_columns, mask_logits.shape[2])

        def block(arrays) -> Int[Array, "R C"]:
            first, *two_rows, weight = arrays
            wide = widen(rows_from(mask_logits, first, two_rows[0]), padded_columns)
            upper, lower = (_class_scores(class_logits, combine_rows(x, wide)) for x in two_rows)
            between = upper + (lower - upper) * weight[:, None]
            return argmax_of_maps(widen(between, columns))

        return jax.lax.collapse(jax.lax.map(block, blocks), 0, 2)

    return side_by_side(
        over_strips(strip, len(plan.lower_weight), plan.output_columns),
        len(plan.output_columns.first),
    )


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
    order = _in_front(kept)
    place, visible, areas = _compete(mask_logits, scores, kept, order, plan, inside_masks)
    ratio = areas.owned / jnp.maximum(areas.mask, 1)
    valid = kept & (areas.segment > 0) & (areas.mask > 0) & (ratio >= overlap_threshold)

    thing = is_thing[jnp.minimum(labels, num_classes - 1)]
    same_stuff = valid & valid[:, None] & (labels == labels[:, None])
    first_of_stuff = jnp.argmax(same_stuff, axis=1)
    leader = jnp.where(thing, jnp.arange(len(labels)), first_of_stuff)
    new_segment = valid & (leader == jnp.arange(len(labels)))
    segment_ids = jnp.where(valid, jnp.cumsum(new_segment)[leader], 0)
    segment_map = jnp.where(visible, segment_ids[order][place], 0)
    return Panoptic(segment_map.astype(jnp.int32), segment_ids, labels, scores)


class Areas(NamedTuple):
    """Numbers of pixels, for every query that competes; undefined for others."""

    mask: Int[Array, "Q"]  # with a mask probability of at least 0.5
    owned: Int[Array, "Q"]  # that it wins
    segment: Int[Array, "Q"]  # of these, the visible ones


def _compete(
    mask_logits: Float[Array, "Q h w"],
    scores: Float[Array, "Q"],
    kept: Bool[Array, "Q"],
    order: Int[Array, "Q"],
    plan: Upsampling,
    inside_masks: bool,
) -> tuple[Int[Array, "H W"], Bool[Array, "H W"], Areas]:
    """Returns which query wins each pixel, where it is to be seen, and areas.

    Only the masks of queries that are kept are upsampled: in most images, few are.

    Args:
        mask_logits: of all queries.
        scores: likewise, the probability of the best class.
        kept: the queries that compete.
        order: those first, see `_in_front`.
        plan: of upsampling.
        inside_masks: whether a query is seen only where its mask probability is at least 0.5.

    Returns:
        The winner's place in `order`, where it is seen, and numbers of pixels.
    """
    at_once = min(len(order), QUERIES_AT_ONCE)
    num_chunks = -(-jnp.sum(kept) // at_once)

    def strip(columns: Neighbours, inside_columns: Bool[Array, "C"]):
        inside = plan.inside_rows[:, None] & inside_columns

        def compete(i, state):
            highest, owner, visible, areas = state
            first = jnp.minimum(i * at_once, len(order) - at_once)
            chosen = jax.lax.dynamic_slice_in_dim(order, first, at_once)
            mask_probs = jax.nn.sigmoid(upsample(mask_logits[chosen], plan, columns))
            masks = (mask_probs >= 0.5) & inside
            competes, score = kept[chosen, None, None], scores[chosen, None, None]
            bids = jnp.where(competes, score * mask_probs, -1)
            for k in range(at_once):  # of equal bids, the first one wins
                wins = bids[k] > highest
                highest = jnp.where(wins, bids[k], highest)
                owner = jnp.where(wins, first + k, owner)
                visible = jnp.where(wins, masks[k], visible)
            return highest, owner, visible, _put(areas, masks, first)

        nobody = jnp.full(inside.shape, -1.0), jnp.zeros(inside.shape, jnp.int32)
        no_area = jnp.zeros(len(order), jnp.int32)
        state = *nobody, jnp.zeros_like(inside), no_area
        _, owner, visible, mask_areas = jax.lax.fori_loop(0, num_chunks, compete, state)
        visible = visible if inside_masks else inside

        def count(i, areas):
            first = jnp.minimum(i * at_once, len(order) - at_once)
            owned = (owner == first + jnp.arange(at_once)[:, None, None]) & inside
            return _put(areas[0], owned, first), _put(areas[1], owned & visible, first)

        counted = jax.lax.fori_loop(0, num_chunks, count, (no_area, no_area))
        return owner, visible, Areas(mask_areas, *counted)

    owner, visible, areas = over_strips(
        strip, len(plan.inside_rows), plan.columns, plan.inside_columns
    )
    places = jnp.maximum(jnp.cumsum(kept) - 1, 0)
    areas = Areas(*(x.sum(axis=0)[places] for x in areas))
    owner, visible = (side_by_side(x, len(plan.inside_columns)) for x in (owner, visible))
    return owner, visible, areas


def _put(
    areas: Int[Array, "Q"], masks: Bool[Array, "n H C"], first: Int[Array, ""]
) -> Int[Array, "Q"]:
    """Returns the areas with those of some masks, from the place `first` on."""
    found = masks.sum(axis=(1, 2), dtype=jnp.int32)
    return jax.lax.dynamic_update_slice_in_dim(areas, found, first, axis=0)
