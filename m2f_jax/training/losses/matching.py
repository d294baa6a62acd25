"""Bipartite matching of queries and targets, by costs at random points (Sec. 3.3) or all pixels.

Axes: L predictions (of the learned queries and of each layer), B images, Q queries, K classes and
"no object", M targets, P points.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.modeling.transformer_decoders.heads import frame_logits, mask_logits
from m2f_jax.ops.assignment import linear_sum_assignment
from m2f_jax.structures import LayerPredictions, Predictions
from m2f_jax.training.config import LossConfig
from m2f_jax.training.losses.clips import sample_frames
from m2f_jax.training.losses.pixels import PIXEL_LOSSES


def mask_maps(
    mask_embeddings: Float[Array, "*L B Q E"], per_pixel: Float[Array, "*#L B H W E"]
) -> Float[Array, "*L B Q H W"]:
    """Computes `mask_logits`, with products at full precision where embeddings are float32."""
    return full_precision(mask_logits, mask_embeddings, per_pixel)


def full_precision(
    product: Callable[[jax.Array, jax.Array], jax.Array],
    mask_embeddings: jax.Array,
    per_pixel: jax.Array,
) -> jax.Array:
    """Computes a product of embeddings, at full precision where they are float32."""
    precision = "highest" if per_pixel.dtype == jnp.float32 else None
    with jax.default_matmul_precision(precision):
        return product(mask_embeddings, per_pixel)


def dice_loss(
    product: Float[Array, "*pairs"], probs: Float[Array, "*#pairs"], labels: Float[Array, "*#pairs"]
) -> Float[Array, "*pairs"]:
    """Returns 1 - dice, smoothed by 1 as in the authors' `dice_loss`.

    Args:
        product: sum over points of probability x label.
        probs: sum of probabilities.
        labels: sum of labels.
    """
    return 1 - (2 * product + 1) / (probs + labels + 1)


def image_costs(
    predictions: Predictions,
    labels: Int[Array, "M"],
    masks: Bool[Array, "*T H W M"] | Float[Array, "*T H W M"],
    points: Float[Array, "P 2"] | None,
    *,
    config: LossConfig,
) -> Float[Array, "M Q"]:
    """Returns the cost of each target and query of one image or clip.

    All pairs share the points, so masks are sampled once and costs are matrix products. All frames
    of a clip share them too, and their samples are one set: the dice loss is of all frames at once.
    """
    probs = jax.nn.softmax(predictions.class_logits, axis=-1)
    class_cost = -jnp.take(probs, labels, axis=-1).T

    mask_logits = sample_frames(jnp.moveaxis(predictions.mask_logits, 0, -1), points)
    mask_probs = jax.nn.sigmoid(mask_logits)
    there = sample_frames(masks, points).T
    outside, added = PIXEL_LOSSES[config.mask_term](mask_logits)
    # One product serves the loss of masks and dice.
    inside, product = jnp.split(
        jnp.matmul(there, jnp.concatenate([added, mask_probs], axis=1), precision="highest"),
        2,
        axis=1,
    )
    mask_cost = (outside.sum(axis=0) + inside) / len(mask_logits)
    dice_cost = dice_loss(product, mask_probs.sum(axis=0), there.sum(axis=1, keepdims=True))
    return (
        config.class_weight * class_cost
        + config.mask_weight * mask_cost
        + config.dice_weight * dice_cost
    )


def matching_costs(
    predictions: LayerPredictions,
    labels: Int[Array, "B M"],
    masks: Bool[Array, "B M *T H W"] | Float[Array, "B M *T H W"],
    points: Float[Array, "L B P 2"] | None,
    *,
    config: LossConfig,
) -> Float[Array, "L B M Q"]:
    """Returns the costs of every prediction and image, as in the authors' `HungarianMatcher`.

    Goes through the predictions one after another, to save memory.

    Args:
        predictions: the predictions of all layers.
        labels: classes of the targets.
        masks: the masks of the targets.
        points: (x, y) in [0, 1], shared by all pairs of an image. None takes every pixel; masks
            then have the size of the predicted ones.
        config: weights of the negative probability of the target's class, of the loss of masks,
            averaged over the points, and of the dice loss; and which loss of masks it is.
    """
    rows = jnp.moveaxis(masks, 1, -1)  # once, so that a point of all masks is one row
    of_image = functools.partial(image_costs, config=config)

    class_logits, mask_embeddings, per_pixel = predictions

    def of_prediction(prediction):
        class_logits, mask_embeddings, points, own = prediction
        maps = full_precision(frame_logits, mask_embeddings, per_pixel if own is None else own)
        return jax.vmap(of_image)(Predictions(class_logits, maps), labels, rows, points)

    own = per_pixel if per_pixel.ndim > masks.ndim else None
    return jax.lax.map(of_prediction, (class_logits, mask_embeddings, points, own))


def match(
    costs: Float[Array, "L B M Q"], valid: Bool[Array, "B M"]
) -> tuple[Int[Array, "L B M"], Int[Array, ""]]:
    """Matches targets and queries, each at most once, at the least total cost.

    A cost that isn't finite counts as 1 more than the image's greatest finite one, so that it
    doesn't disturb the rest of the matching.

    Returns:
        The query of each target, -1 for none; and the number of costs of valid targets that weren't
        finite.
    """
    num_predictions, num_images, num_targets, num_queries = costs.shape
    costs = jnp.swapaxes(costs, 0, 1)  # images first: over devices, no problem moves
    valid = jnp.broadcast_to(valid[:, None], costs.shape[:3])
    finite = jnp.isfinite(costs)
    worst = jnp.max(costs, axis=(2, 3), keepdims=True, where=finite, initial=0.0)
    costs = jnp.where(finite, costs, worst + 1)
    assignment = linear_sum_assignment(
        costs.reshape(-1, num_targets, num_queries), valid.reshape(-1, num_targets)
    )
    assignment = assignment.reshape(num_images, num_predictions, num_targets)
    return jnp.swapaxes(assignment, 0, 1), (~finite & valid[..., None]).sum()
