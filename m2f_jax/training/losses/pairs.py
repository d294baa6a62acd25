"""Sums over matched pairs of a target and a query, a block of targets at a time.

Only the maps, candidates and samples of one block are in memory. There are as many blocks as the
targets need, so padding costs nothing, and maps of unmatched queries are never made. The gradient
makes the maps of matched ones again.

Axes: L predictions (of the learned queries and of each layer), B images, Q queries, E mask
embedding width, M targets, N targets filled up to whole blocks, T targets of a block, P points.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.ops.resize import enlarge_bilinear
from m2f_jax.ops.sampling import random_points, sample_map
from m2f_jax.ops.selection import smallest
from m2f_jax.training.config import LossConfig
from m2f_jax.training.losses.matching import mask_maps

BLOCK = 8  # targets per image whose points are in memory at once; empty blocks at the end are free
IMAGES_BLOCK = 1  # targets, where losses take all pixels of the images
LARGEST_LOGIT = 1e30  # keeps sums of losses finite


class LossPoints(NamedTuple):
    """Points (x, y) in [0, 1] of the padded input, in place of random ones.

    Every target has points; those of a target without a query are never read.
    """

    matching: Float[Array, "L B P 2"]  # a clip's frames share them
    candidates: Float[Array, "L B*T M C 2"]  # C = num_candidates; each frame has its own
    extra: Float[Array, "L B*T M R 2"]  # R = num_points - num_uncertain


class Pair(NamedTuple):
    """One target and the query that is matched to it.

    Attributes:
        logits: the query's mask logits at the points; finite, also where predictions overflow.
        labels: the target's mask at the points, from 0 to 1 because samples are bilinear.
        logit_map: all mask logits of the query, at stride 4.
        mask: the whole target; from 0 to 1 and of the logit map's size where whole masks are taken
            at the predictions' pixels.
        points: (x, y) in [0, 1] of the padded input; None where `logits` and `labels` are those of
            all pixels of the mask, row by row.
    """

    logits: Float[Array, "P"]
    labels: Float[Array, "P"]
    logit_map: Float[Array, "h w"]
    mask: Bool[Array, "H W"] | Float[Array, "H W"]
    points: Float[Array, "P 2"] | None


PairLoss = Callable[[Pair], Float[Array, ""]]


def num_blocks(assignment: Int[Array, "L B M"], size: int = BLOCK) -> Int[Array, ""]:
    """Returns the number of blocks up to the last target that has a query."""
    used = (assignment >= 0).any(axis=(0, 1))
    count = jnp.max(jnp.arange(1, used.size + 1), where=used, initial=0)
    return -(-count // size)


def take_block(x: Any, block: Int[Array, ""], axis: int, size: int = BLOCK) -> Any:
    """Takes a block of targets along an axis, repeating the last one at the end; None stays."""
    if x is None:
        return None
    return jnp.take(x, block * size + jnp.arange(size), axis=axis, mode="clip")


def block_queries(
    assignment: Int[Array, "L B M"], block: Int[Array, ""], num_queries: int, size: int = BLOCK
) -> Int[Array, "L B T"]:
    """Returns the query of each target of a block; Q for targets without one."""
    index = block * size + jnp.arange(size)
    query = jnp.take(assignment, index, axis=2, mode="fill", fill_value=-1)
    return jnp.where(query < 0, num_queries, query)


def block_size(per_pixel: jax.Array, masks: jax.Array, points: jax.Array | None) -> int:
    """Returns how many targets per image are gone through at once."""
    at_images_pixels = points is None and masks.shape[-2:] != per_pixel.shape[-3:-1]
    return IMAGES_BLOCK if at_images_pixels else BLOCK


def take_embeddings(
    mask_embeddings: Float[Array, "L B Q E"], query: Int[Array, "L B T"]
) -> Float[Array, "L B T E"]:
    """Takes the mask embeddings of the given queries."""
    return jnp.take_along_axis(mask_embeddings, query[..., None], axis=2, mode="clip")


def choose_points(
    mask_embeddings: Float[Array, "L B Q E"],
    per_pixel: Float[Array, "*L B H W E"],
    assignment: Int[Array, "L B M"],
    config: LossConfig,
    key: jax.Array,
    given: LossPoints | None,
) -> Float[Array, "L B N P 2"] | None:
    """Chooses the points of each matched pair: the most uncertain candidates, and random ones.

    A point is uncertain where its logit is near 0, as in PointRend (Kirillov et al., CVPR 2020,
    Sec. 3.1). Returns None if losses are over whole masks.

    Args:
        mask_embeddings: the embeddings of all queries.
        per_pixel: embeddings, at stride 4.
        assignment: the query of each target; -1 for none.
        config: numbers of points.
        key: the key of the random points; unused if `given` is not None.
        given: the candidates and extra points to take.
    """
    if config.num_points is None:
        return None
    mask_embeddings, per_pixel = jax.lax.stop_gradient((mask_embeddings, per_pixel))
    num_predictions, num_images, num_targets = assignment.shape
    num_extra = config.num_points - config.num_uncertain

    def draw(block):
        if given is not None:
            return take_block(given.candidates, block, 2), take_block(given.extra, block, 2)
        shape = num_predictions, num_images, BLOCK, config.num_candidates + num_extra
        drawn = random_points(jax.random.fold_in(key, block), shape)
        return jnp.split(drawn, [config.num_candidates], axis=3)

    def uncertain(map_logits, candidates):
        certainty = jnp.abs(sample_map(map_logits, candidates))
        return candidates[smallest(certainty, config.num_uncertain)]

    def choose(block, chosen):
        query = block_queries(assignment, block, mask_embeddings.shape[2])
        maps = mask_maps(take_embeddings(mask_embeddings, query), per_pixel)
        candidates, extra = draw(block)
        important = jax.vmap(jax.vmap(jax.vmap(uncertain)))(maps, candidates)
        points = jnp.concatenate([important, extra], axis=3)
        return jax.lax.dynamic_update_slice_in_dim(chosen, points, block * BLOCK, axis=2)

    filled_up = -(-num_targets // BLOCK) * BLOCK
    shape = num_predictions, num_images, filled_up, config.num_points, 2
    # The barrier keeps XLA from filling the array with zeros before the network has run.
    assignment, zero = jax.lax.optimization_barrier((assignment, jnp.float32(0)))
    chosen = jnp.broadcast_to(zero, shape)
    return jax.lax.fori_loop(0, num_blocks(assignment), choose, chosen)


def finite(logits: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Returns logits without infinities."""
    return jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT)


def make_pair(
    logit_map: Float[Array, "h w"],
    mask: Bool[Array, "H W"] | Float[Array, "H W"],
    points: Float[Array, "P 2"] | None,
) -> Pair:
    """Samples the logits and the mask of one pair; without points, takes all pixels of the mask.

    If their map has another size, logits are resized to the mask's, as in MaskFormer.
    """
    height, width = mask.shape
    if points is None and mask.shape != logit_map.shape:
        logits = enlarge_bilinear(finite(logit_map), (height, width)).ravel()
    else:
        logits = finite(sample_map(logit_map, points))
    return Pair(logits, sample_map(mask, points), logit_map, mask, points)


def block_sums(
    losses: tuple[PairLoss, ...],
    mask_embeddings: Float[Array, "L B T E"],
    per_pixel: Float[Array, "*L B h w E"],
    query: Int[Array, "L B T"],
    masks: Bool[Array, "B T H W"] | Float[Array, "B T H W"],
    points: Float[Array, "L B T P 2"] | None,
    num_queries: int,
) -> tuple[Float[Array, "L B"], ...]:
    """Sums each loss over the matched pairs of a block."""

    def of_pair(logit_map, mask, points):
        pair = make_pair(logit_map, mask, points)
        return tuple(loss(pair) for loss in losses)

    maps = mask_maps(mask_embeddings, per_pixel)
    values = jax.vmap(jax.vmap(jax.vmap(of_pair)), in_axes=(0, None, 0))(maps, masks, points)
    matched = query < num_queries
    return tuple(jnp.where(matched, x, 0.0).sum(axis=2) for x in values)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def pair_sums(
    losses: tuple[PairLoss, ...],
    mask_embeddings: Float[Array, "L B Q E"],
    per_pixel: Float[Array, "*L B h w E"],
    masks: Bool[Array, "B M H W"] | Float[Array, "B M H W"],
    assignment: Int[Array, "L B M"],
    points: Float[Array, "L B N P 2"] | None,
) -> tuple[Float[Array, "L B"], ...]:
    """Sums each loss over the matched pairs of each image.

    It can be differentiated by `mask_embeddings` and `per_pixel`.
    """
    num_queries = mask_embeddings.shape[2]
    size = block_size(per_pixel, masks, points)

    def add_block(block, sums):
        query = block_queries(assignment, block, num_queries, size)
        more = block_sums(
            losses,
            take_embeddings(mask_embeddings, query),
            per_pixel,
            query,
            take_block(masks, block, 1, size),
            take_block(points, block, 2, size),
            num_queries,
        )
        return tuple(x + y for x, y in zip(sums, more, strict=True))

    zeros = jnp.zeros(mask_embeddings.shape[:2], jnp.float32)
    return jax.lax.fori_loop(0, num_blocks(assignment, size), add_block, (zeros,) * len(losses))


def pair_sums_forward(losses: tuple[PairLoss, ...], *arguments: Any) -> Any:
    """Returns the sums and the residuals of `pair_sums_backward`, which are the arguments."""
    return pair_sums(losses, *arguments), arguments


def pair_sums_backward(losses: tuple[PairLoss, ...], arguments: Any, cotangents: Any) -> Any:
    """Returns the derivatives; makes maps and samples again, a block at a time."""
    mask_embeddings, per_pixel, masks, assignment, points = arguments
    num_queries = mask_embeddings.shape[2]
    size = block_size(per_pixel, masks, points)

    def add_block(block, gradients):
        query = block_queries(assignment, block, num_queries, size)
        of_factors = functools.partial(
            block_sums,
            losses,
            query=query,
            masks=take_block(masks, block, 1, size),
            points=take_block(points, block, 2, size),
            num_queries=num_queries,
        )
        chosen = take_embeddings(mask_embeddings, query)
        of_chosen, of_pixels = jax.vjp(of_factors, chosen, per_pixel)[1](cotangents)
        put = jax.vmap(jax.vmap(lambda rows, query, new: rows.at[query].set(new, mode="drop")))
        return put(gradients[0], query, of_chosen), gradients[1] + of_pixels.astype(jnp.float32)

    # The barrier keeps XLA from filling the gradient with zeros before the network has run.
    assignment, zero = jax.lax.optimization_barrier((assignment, jnp.float32(0)))
    gradients = jnp.zeros_like(mask_embeddings), jnp.broadcast_to(zero, per_pixel.shape)
    by_query, by_pixel = jax.lax.fori_loop(0, num_blocks(assignment, size), add_block, gradients)
    return by_query, by_pixel.astype(per_pixel.dtype), None, None, None


pair_sums.defvjp(pair_sums_forward, pair_sums_backward)
