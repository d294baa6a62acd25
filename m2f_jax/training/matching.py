"""Which query answers for which object: costs at random points, then bipartite matching (Sec. 3.3).

Axes: L predictions (of the learned queries and of each layer), B images, Q queries, K classes and
"no object", M targets, P points.
"""

import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.modeling.transformer_decoder import mask_logits
from m2f_jax.ops.assignment import linear_sum_assignment
from m2f_jax.ops.sampling import sample
from m2f_jax.structures import LayerPredictions, Predictions


def mask_maps(
    mask_embeddings: Float[Array, "*L B Q E"], per_pixel: Float[Array, "*#L B H W E"]
) -> Float[Array, "*L B Q H W"]:
    """`mask_logits`, of float32 at full precision."""
    precision = "highest" if per_pixel.dtype == jnp.float32 else None
    with jax.default_matmul_precision(precision):
        return mask_logits(mask_embeddings, per_pixel)


def dice_loss(
    product: Float[Array, "*pairs"], probs: Float[Array, "*#pairs"], labels: Float[Array, "*#pairs"]
) -> Float[Array, "*pairs"]:
    """1 - Dice, from the sums over points of products, of probabilities and of labels."""
    return 1 - (2 * product + 1) / (probs + labels + 1)


def image_costs(
    predictions: Predictions,
    labels: Int[Array, "M"],
    masks: Bool[Array, "H W M"] | Float[Array, "H W M"],
    points: Float[Array, "P 2"] | None,
    *,
    class_weight: float,
    mask_weight: float,
    dice_weight: float,
) -> Float[Array, "M Q"]:
    """What each query would cost each target, for the predictions of one image.

    All pairs share the points, so the samples are rows of all masks and costs are matrix products.
    """
    probs = jax.nn.softmax(predictions.class_logits, axis=-1)
    class_cost = -jnp.take(probs, labels, axis=-1).T

    mask_logits = sample(jnp.moveaxis(predictions.mask_logits, 0, -1), points)
    mask_probs = jax.nn.sigmoid(mask_logits)
    there = sample(masks, points).T
    # The cross-entropy of a logit x and a label t is softplus(x) - t x, so one product has it all.
    inside, product = jnp.split(
        jnp.matmul(there, jnp.concatenate([mask_logits, mask_probs], axis=1), precision="highest"),
        2,
        axis=1,
    )
    mask_cost = (jax.nn.softplus(mask_logits).sum(axis=0) - inside) / len(mask_logits)
    dice_cost = dice_loss(product, mask_probs.sum(axis=0), there.sum(axis=1, keepdims=True))
    return class_weight * class_cost + mask_weight * mask_cost + dice_weight * dice_cost


def matching_costs(
    predictions: LayerPredictions,
    labels: Int[Array, "B M"],
    masks: Bool[Array, "B M H W"] | Float[Array, "B M H W"],
    points: Float[Array, "L B P 2"] | None,
    *,
    class_weight: float,
    mask_weight: float,
    dice_weight: float,
) -> Float[Array, "L B M Q"]:
    """`image_costs` of every prediction and image, as the authors' `HungarianMatcher` weighs them.

    Args:
        predictions: one after another is taken, which costs a tenth of the memory and no time that
            counts.
        labels: of the targets.
        masks: of the targets; laid out once such that a point of all masks is one row.
        points: (x, y) in [0, 1], shared by all pairs of an image; None for every pixel of masks
            that have the size of the predicted ones.
        class_weight: of the negative probability of the target's class.
        mask_weight: of the binary cross-entropy, averaged over the points.
        dice_weight: of the dice loss.
    """
    rows = jnp.moveaxis(masks, 1, -1)
    of_image = functools.partial(
        image_costs, class_weight=class_weight, mask_weight=mask_weight, dice_weight=dice_weight
    )

    class_logits, mask_embeddings, per_pixel = predictions

    def of_prediction(prediction):
        class_logits, mask_embeddings, points, own = prediction
        maps = mask_maps(mask_embeddings, per_pixel if own is None else own)
        return jax.vmap(of_image)(Predictions(class_logits, maps), labels, rows, points)

    own = per_pixel if per_pixel.ndim > mask_embeddings.ndim else None
    return jax.lax.map(of_prediction, (class_logits, mask_embeddings, points, own))


def match(
    costs: Float[Array, "L B M Q"], valid: Bool[Array, "B M"]
) -> tuple[Int[Array, "L B M"], Int[Array, ""]]:
    """The query of each target, -1 for none, and how many costs of valid targets weren't finite.

    Costs that aren't finite count as 1 more than the worst of the same image that is, so that the
    others are matched as if nothing had happened.
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
