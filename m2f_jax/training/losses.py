"""What training minimises: class, mask and dice losses of every prediction (Sec. 3.3, 4.1).

The numbers are those of the authors' `SetCriterion` and `HungarianMatcher` on one device, whatever
the number of devices that a batch is spread over. On several, theirs divide each device's sums of
mask and dice losses by the targets per device, of all images, and average the gradients: the same
as ours. Their class loss is each device's own weighted mean, averaged over devices; ours is the
weighted mean over all images.

Axes: L predictions (of the learned queries and of each layer), B images, Q queries, K classes and
"no object", M targets, P points, T targets of a block.
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.ops.resize import resize_bilinear
from m2f_jax.ops.sampling import sample_map
from m2f_jax.structures import LayerPredictions, Predictions, Targets
from m2f_jax.training.config import LossConfig, TrainConfig
from m2f_jax.training.matching import dice_loss, mask_maps, match, matching_costs

BLOCK = 8  # targets per image whose points are in memory at once; empty blocks at the end are free
LARGEST_LOGIT = 1e30  # keeps sums of losses finite


class LossPoints(NamedTuple):
    """Points (x, y) in [0, 1] of the padded input, in place of random ones.

    A target that has no query has points nevertheless; they aren't read.
    """

    matching: Float[Array, "L B P 2"]
    candidates: Float[Array, "L B M C 2"]  # C = num_candidates
    extra: Float[Array, "L B M R 2"]  # R = num_points - num_uncertain


class Losses(NamedTuple):
    """The loss, its parts before weighting, and what was matched."""

    total: Float[Array, ""]
    class_: Float[Array, "L"]
    mask: Float[Array, "L"]
    dice: Float[Array, "L"]
    assignment: Int[Array, "L B M"]  # each target's query; -1 for padding and for targets without
    non_finite_costs: Int[Array, ""]  # of matching; above 0 the predictions overflow or are nan


def loss(
    predictions: LayerPredictions | Sequence[Predictions],
    targets: Targets,
    config: LossConfig | TrainConfig,
    *,
    key: jax.Array,
    points: LossPoints | None = None,
) -> Losses:
    """The losses of a batch, in float32 throughout and finite for finite predictions.

    Each prediction is matched on its own, with its own points. Only `total`, `class_`, `mask` and
    `dice` have derivatives, and these by the predictions only; reverse mode, first order.

    Args:
        predictions: one per layer, the learned queries' first (`all_layers=True`); or all of them
            with masks yet to be multiplied, which takes less memory and time.
        targets: M may be any number, also above Q: then the Q that cost least are matched.
        config: weights and numbers of points, or a training's that has them.
        key: of the random points; not read when `points` is given.
        points: the points to take.

    Raises:
        ValueError: shapes don't fit one another; the message has both.
    """
    if isinstance(config, TrainConfig):
        config = config.loss
    check_shapes(predictions, targets, config, points)
    if not isinstance(predictions, LayerPredictions):
        predictions = factor(tuple(predictions))
    num_targets = targets.labels.shape[1]
    if num_targets == 0:
        targets = Targets(
            *(jnp.pad(x, [(0, 0), (0, 1)] + [(0, 0)] * (x.ndim - 2)) for x in targets)
        )
        points = None
    targets = Targets(*map(jnp.asarray, targets))
    losses = compute(predictions, targets, config, key, points)
    return losses._replace(assignment=losses.assignment[..., :num_targets])


@functools.partial(jax.jit, static_argnames="config")
def compute(
    predictions: LayerPredictions,
    targets: Targets,
    config: LossConfig,
    key: jax.Array,
    points: LossPoints | None,
) -> Losses:
    """`loss`, of checked arrays."""
    class_logits, mask_embeddings, per_pixel = predictions
    labels, masks, valid = map(jnp.asarray, targets)
    matching_key, mask_key = jax.random.split(key)

    if config.num_points is None:
        *_, height, width, _ = per_pixel.shape
        masks, shared = masks_at_size(masks, (height, width)), None
    elif points is None:
        shape = (*class_logits.shape[:2], config.num_points, 2)
        shared = jax.random.uniform(matching_key, shape)
    else:
        shared = points.matching
    costs = matching_costs(
        jax.lax.stop_gradient(predictions),
        labels,
        masks,
        shared,
        class_weight=config.class_weight,
        mask_weight=config.mask_weight,
        dice_weight=config.dice_weight,
    )
    assignment, non_finite_costs = match(costs, valid)

    chosen = choose_points(mask_embeddings, per_pixel, assignment, config, mask_key, points)
    sums = mask_and_dice_sums(mask_embeddings, per_pixel, masks, assignment, chosen)
    num_masks = jnp.maximum(valid.sum(), 1).astype(jnp.float32)
    mask, dice = (x.sum(axis=1) / num_masks for x in sums)
    class_ = class_loss(class_logits, labels, assignment, config.no_object_weight)
    total = config.class_weight * class_ + config.mask_weight * mask + config.dice_weight * dice
    return Losses(total.sum(), class_, mask, dice, assignment, non_finite_costs)


@jax.jit
def factor(predictions: tuple[Predictions, ...]) -> LayerPredictions:
    """Of masks that are there already, as products: the pixels' logits, and which one is whose."""
    class_logits = jnp.stack([x.class_logits.astype(jnp.float32) for x in predictions])
    mask_logits = jnp.stack([x.mask_logits.astype(jnp.float32) for x in predictions])
    num_queries = class_logits.shape[2]
    own = jnp.broadcast_to(jnp.eye(num_queries), (*class_logits.shape[:3], num_queries))
    return LayerPredictions(class_logits, own, jnp.moveaxis(mask_logits, 2, -1))


def masks_at_size(
    masks: Bool[Array, "B M H W"], size: tuple[int, int]
) -> Float[Array, "B M {size[0]} {size[1]}"]:
    """What sampling the masks at the centres of all pixels of a map of this size gives."""
    maps = jax.lax.collapse(masks, 0, 2)[..., None].astype(jnp.float32)
    return resize_bilinear(maps, size).reshape(*masks.shape[:2], *size)


def class_loss(
    logits: Float[Array, "L B Q K"],
    labels: Int[Array, "B M"],
    assignment: Int[Array, "L B M"],
    no_object_weight: float,
) -> Float[Array, "L"]:
    """The weighted mean of the queries' cross-entropy; those without a target are "no object"."""
    *_, num_queries, num_classes = logits.shape
    no_object = num_classes - 1
    query = jnp.where(assignment < 0, num_queries, assignment)

    def classes_of_queries(query, labels):
        return jnp.full(num_queries, no_object, labels.dtype).at[query].set(labels, mode="drop")

    classes = jax.vmap(jax.vmap(classes_of_queries), in_axes=(0, None))(query, labels)
    log_probs = jax.nn.log_softmax(jnp.clip(logits, -LARGEST_LOGIT, LARGEST_LOGIT), axis=-1)
    log_probs = jnp.take_along_axis(log_probs, classes[..., None], axis=-1)[..., 0]
    weights = jnp.where(classes == no_object, no_object_weight, 1.0)
    return -(log_probs * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))


# The mask losses go through the targets in blocks, as many as there are targets: what a block needs
# in memory (its queries' maps, candidates, samples) is small, and padding costs nothing. Nor do the
# maps of queries without a target, which are never made. Those of the others are made three times.
# Barriers keep XLA from laying out what the loops fill, zeros, before the network is run.


def num_blocks(assignment: Int[Array, "L B M"]) -> Int[Array, ""]:
    """Blocks up to the last target that has a query."""
    used = (assignment >= 0).any(axis=(0, 1))
    count = jnp.max(jnp.arange(1, used.size + 1), where=used, initial=0)
    return -(-count // BLOCK)


def take_block(x: Any, block: Int[Array, ""], axis: int) -> Any:
    """The targets of a block, beyond the last one the last one again; None of None."""
    if x is None:
        return None
    return jnp.take(x, block * BLOCK + jnp.arange(BLOCK), axis=axis, mode="clip")


def block_queries(
    assignment: Int[Array, "L B M"], block: Int[Array, ""], num_queries: int
) -> Int[Array, "L B T"]:
    """The queries of a block's targets; Q for none."""
    index = block * BLOCK + jnp.arange(BLOCK)
    query = jnp.take(assignment, index, axis=2, mode="fill", fill_value=-1)
    return jnp.where(query < 0, num_queries, query)


def take_embeddings(
    mask_embeddings: Float[Array, "L B Q E"], query: Int[Array, "L B T"]
) -> Float[Array, "L B T E"]:
    """The mask embeddings of these queries."""
    return jnp.take_along_axis(mask_embeddings, query[..., None], axis=2, mode="clip")


def choose_points(
    mask_embeddings: Float[Array, "L B Q E"],
    per_pixel: Float[Array, "*L B H W E"],
    assignment: Int[Array, "L B M"],
    config: LossConfig,
    key: jax.Array,
    given: LossPoints | None,
) -> Float[Array, "L B N P 2"] | None:
    """Points for the masks of matched pairs: the most uncertain of many, and random ones.

    A point is uncertain where its logit is near 0, as in PointRend (Kirillov et al., CVPR 2020,
    Sec. 3.1). N is M, filled up to whole blocks. Whole masks need none.
    """
    if config.num_points is None:
        return None
    mask_embeddings, per_pixel = jax.lax.stop_gradient((mask_embeddings, per_pixel))
    num_predictions, num_images, num_targets = assignment.shape
    num_extra = config.num_points - config.num_uncertain

    def draw(block):
        if given is not None:
            return take_block(given.candidates, block, 2), take_block(given.extra, block, 2)
        shape = num_predictions, num_images, BLOCK, config.num_candidates + num_extra, 2
        drawn = jax.random.uniform(jax.random.fold_in(key, block), shape)
        return jnp.split(drawn, [config.num_candidates], axis=3)

    def uncertain(map_logits, candidates):
        certainty = jnp.abs(sample_map(map_logits, candidates))
        return candidates[jax.lax.top_k(-certainty, config.num_uncertain)[1]]

    def choose(block, chosen):
        query = block_queries(assignment, block, mask_embeddings.shape[2])
        maps = mask_maps(take_embeddings(mask_embeddings, query), per_pixel)
        candidates, extra = draw(block)
        important = jax.vmap(jax.vmap(jax.vmap(uncertain)))(maps, candidates)
        points = jnp.concatenate([important, extra], axis=3)
        return jax.lax.dynamic_update_slice_in_dim(chosen, points, block * BLOCK, axis=2)

    filled_up = -(-num_targets // BLOCK) * BLOCK
    shape = num_predictions, num_images, filled_up, config.num_points, 2
    assignment, zero = jax.lax.optimization_barrier((assignment, jnp.float32(0)))
    chosen = jnp.broadcast_to(zero, shape)
    return jax.lax.fori_loop(0, num_blocks(assignment), choose, chosen)


def pair_losses(
    logits: Float[Array, "h w"],
    mask: Bool[Array, "H W"] | Float[Array, "H W"],
    points: Float[Array, "P 2"] | None,
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The binary cross-entropy, averaged over the points, and the dice loss of one matched pair.

    Without points, over all pixels of a mask that has the size of the logits.
    """
    logits = jnp.clip(sample_map(logits, points), -LARGEST_LOGIT, LARGEST_LOGIT)
    labels = sample_map(mask, points)
    probs = jax.nn.sigmoid(logits)
    cross_entropy = (jax.nn.softplus(logits) - logits * labels).mean()
    return cross_entropy, dice_loss((probs * labels).sum(), probs.sum(), labels.sum())


def block_sums(
    mask_embeddings: Float[Array, "L B T E"],
    per_pixel: Float[Array, "*L B h w E"],
    query: Int[Array, "L B T"],
    masks: Bool[Array, "B T H W"] | Float[Array, "B T H W"],
    points: Float[Array, "L B T P 2"] | None,
    num_queries: int,
) -> tuple[Float[Array, "L B"], Float[Array, "L B"]]:
    """The losses of a block's matched pairs, summed over its targets."""
    maps = mask_maps(mask_embeddings, per_pixel)
    pairs = jax.vmap(jax.vmap(jax.vmap(pair_losses)), in_axes=(0, None, 0))
    matched = query < num_queries
    cross_entropy, dice = (jnp.where(matched, x, 0.0) for x in pairs(maps, masks, points))
    return cross_entropy.sum(axis=2), dice.sum(axis=2)


@jax.custom_vjp
def mask_and_dice_sums(
    mask_embeddings: Float[Array, "L B Q E"],
    per_pixel: Float[Array, "*L B h w E"],
    masks: Bool[Array, "B M H W"] | Float[Array, "B M H W"],
    assignment: Int[Array, "L B M"],
    points: Float[Array, "L B N P 2"] | None,
) -> tuple[Float[Array, "L B"], Float[Array, "L B"]]:
    """The mask and the dice losses, summed over the matched pairs of each image."""
    num_queries = mask_embeddings.shape[2]

    def add_block(block, sums):
        query = block_queries(assignment, block, num_queries)
        more = block_sums(
            take_embeddings(mask_embeddings, query),
            per_pixel,
            query,
            take_block(masks, block, 1),
            take_block(points, block, 2),
            num_queries,
        )
        return tuple(x + y for x, y in zip(sums, more, strict=True))

    zeros = jnp.zeros(mask_embeddings.shape[:2], jnp.float32)
    return jax.lax.fori_loop(0, num_blocks(assignment), add_block, (zeros, zeros))


def mask_and_dice_forward(*arguments: Any) -> Any:
    """The sums, and what their derivatives need: the arguments."""
    return mask_and_dice_sums(*arguments), arguments


def mask_and_dice_backward(arguments: Any, cotangents: Any) -> Any:
    """The derivatives by the factors; maps and samples are made again, a block at a time."""
    mask_embeddings, per_pixel, masks, assignment, points = arguments
    num_queries = mask_embeddings.shape[2]

    def add_block(block, gradients):
        query = block_queries(assignment, block, num_queries)
        of_factors = functools.partial(
            block_sums,
            query=query,
            masks=take_block(masks, block, 1),
            points=take_block(points, block, 2),
            num_queries=num_queries,
        )
        chosen = take_embeddings(mask_embeddings, query)
        of_chosen, of_pixels = jax.vjp(of_factors, chosen, per_pixel)[1](cotangents)
        put = jax.vmap(jax.vmap(lambda rows, query, new: rows.at[query].set(new, mode="drop")))
        return put(gradients[0], query, of_chosen), gradients[1] + of_pixels.astype(jnp.float32)

    assignment, zero = jax.lax.optimization_barrier((assignment, jnp.float32(0)))
    gradients = jnp.zeros_like(mask_embeddings), jnp.broadcast_to(zero, per_pixel.shape)
    by_query, by_pixel = jax.lax.fori_loop(0, num_blocks(assignment), add_block, gradients)
    return by_query, by_pixel.astype(per_pixel.dtype), None, None, None


mask_and_dice_sums.defvjp(mask_and_dice_forward, mask_and_dice_backward)


def check_shapes(
    predictions: LayerPredictions | Sequence[Predictions],
    targets: Targets,
    config: LossConfig,
    points: LossPoints | None,
):
    """Refuses, by name, arrays that don't fit one another."""
    if isinstance(predictions, LayerPredictions):
        num_predictions = len(predictions.class_logits)
        *_, batch, height, width, _ = predictions.per_pixel.shape
    else:
        if not predictions or isinstance(predictions, Predictions):
            found = "one Predictions" if predictions else "empty"
            raise ValueError(f"predictions is {found}; expected one per layer (all_layers=True)")
        shapes = {(x.class_logits.shape, x.mask_logits.shape) for x in predictions}
        if len(shapes) > 1:
            raise ValueError(f"predictions differ in shape: {sorted(shapes)}")
        num_predictions = len(predictions)
        [((batch, *_), (*_, height, width))] = shapes
    labels, masks, valid = (jnp.shape(x) for x in targets)
    expected = batch, labels[-1]
    size = tuple(-(-x // 4) for x in masks[2:])
    if labels != expected or valid != expected or masks[:2] != expected or size != (height, width):
        raise ValueError(
            f"targets has labels {labels}, masks {masks}, valid {valid}; expected [B, M], "
            f"[B, M, H, W], [B, M] with B = {batch} and H x W the input of mask logits at stride "
            f"4, {height} x {width}"
        )
    if points is not None:
        if config.num_points is None:
            raise ValueError("points are given, but LossConfig.num_points is None: whole masks")
        layers = num_predictions, batch
        num_extra = config.num_points - config.num_uncertain
        expected = (
            (*layers, config.num_points, 2),
            (*layers, labels[1], config.num_candidates, 2),
            (*layers, labels[1], num_extra, 2),
        )
        found = tuple(jnp.shape(x) for x in points)
        if found != expected:
            raise ValueError(f"points has shapes {found}; expected {expected}")
