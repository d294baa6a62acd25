"""The terms that a loss is the weighted sum of: classes and masks (Sec. 3.3, 4.1).

Axes: L predictions (of the learned queries and of each layer), B images, Q queries, K classes and
"no object", M targets.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from m2f_jax.structures import LayerPredictions, Targets
from m2f_jax.training.config import LossConfig
from m2f_jax.training.losses.matching import dice_loss
from m2f_jax.training.losses.pairs import LARGEST_LOGIT, Pair, PairLoss
from m2f_jax.training.losses.pixels import PixelLoss, cross_entropy, focal

BatchLoss = Callable[
    [LayerPredictions, Targets, Int[Array, "L B M"], LossConfig], Float[Array, "L"]
]


@dataclass(frozen=True)
class PairTerm:
    """A term of matched pairs: summed over all of a batch and divided by the number of targets.

    Attributes:
        function: the loss of one `Pair`. Pairs are gone through a block at a time, forward and
            backward, so what it computes takes little memory.
    """

    function: PairLoss


@dataclass(frozen=True)
class BatchTerm:
    """A term of a whole batch.

    Attributes:
        function: takes the predictions, the targets, the query of each target [L, B, M], -1 for
            none, and the config. Returns the loss of each prediction [L]. It is differentiated by
            the predictions, with the residuals of all queries in memory at once.
    """

    function: BatchLoss


def class_loss(
    predictions: LayerPredictions,
    targets: Targets,
    assignment: Int[Array, "L B M"],
    config: LossConfig,
) -> Float[Array, "L"]:
    """Returns the weighted mean of all queries' cross-entropy; the unmatched are "no object".

    In a clip, a query has its object's class even if the object has left before the last frame.
    The authors' code takes classes from the last frame, where such an object is "no object" while
    its masks are still learned.
    """
    *_, num_queries, num_classes = predictions.class_logits.shape
    no_object = num_classes - 1
    query = jnp.where(assignment < 0, num_queries, assignment)

    def classes_of_queries(query, labels):
        return jnp.full(num_queries, no_object, labels.dtype).at[query].set(labels, mode="drop")

    of_images = jax.vmap(classes_of_queries)
    classes = jax.vmap(of_images, in_axes=(0, None))(query, jnp.asarray(targets.labels))
    logits = jnp.clip(predictions.class_logits, -LARGEST_LOGIT, LARGEST_LOGIT)
    log_probs = jax.nn.log_softmax(logits, axis=-1)
    log_probs = jnp.take_along_axis(log_probs, classes[..., None], axis=-1)[..., 0]
    weights = jnp.where(classes == no_object, config.no_object_weight, 1.0)
    return -(log_probs * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2))


def mask_cross_entropy(pair: Pair) -> Float[Array, ""]:
    """Returns the binary cross-entropy of a pair, averaged over its points."""
    return mean_loss(cross_entropy(pair.logits), pair)


def mask_focal(pair: Pair) -> Float[Array, ""]:
    """Returns the focal loss of a pair, averaged over its points."""
    return mean_loss(focal(pair.logits), pair)


def mean_loss(loss: PixelLoss, pair: Pair) -> Float[Array, ""]:
    """Returns the mean of a loss at the points of a pair."""
    return (loss.outside + loss.added * pair.labels).mean()


def mask_dice(pair: Pair) -> Float[Array, ""]:
    """Returns the dice loss of a pair (Milletari et al., 3DV 2016), as the authors smooth it."""
    probs = jax.nn.sigmoid(pair.logits)
    return dice_loss((probs * pair.labels).sum(), probs.sum(), pair.labels.sum())


TERMS: dict[str, PairTerm | BatchTerm] = {
    "class": BatchTerm(class_loss),
    "mask": PairTerm(mask_cross_entropy),
    "dice": PairTerm(mask_dice),
    "focal": PairTerm(mask_focal),
}


def weighted_terms(config: LossConfig) -> dict[str, PairTerm | BatchTerm]:
    """Returns the terms that the config gives a weight, by name.

    Raises:
        ValueError: a name isn't in `TERMS`.
    """
    if unknown := [name for name in config.weights if name not in TERMS]:
        raise ValueError(
            f"LossConfig.extra_terms: there is no loss term {', '.join(unknown)}, but "
            f"{', '.join(TERMS)}; add yours to m2f_jax.training.losses.TERMS first"
        )
    return {name: TERMS[name] for name in config.weights}
