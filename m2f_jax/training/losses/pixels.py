"""The losses of a mask's logit at one point or pixel, for matched pairs and for matching alike.

Every such loss is linear in the label, so matching needs one matrix product for all pairs.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
from jaxtyping import Array, Float

FOCAL_ALPHA = 0.25  # weight of labels of 1; labels of 0 weigh 1 - FOCAL_ALPHA


class PixelLoss(NamedTuple):
    """The loss of a logit by its label: `outside` + label x `added`."""

    outside: Float[Array, "*points"]  # where the label is 0
    added: Float[Array, "*points"]  # by a label of 1


def cross_entropy(logits: Float[Array, "*points"]) -> PixelLoss:
    """Returns the binary cross-entropy."""
    return PixelLoss(jax.nn.softplus(logits), -logits)


def focal(logits: Float[Array, "*points"]) -> PixelLoss:
    """Returns the focal loss (Lin et al., ICCV 2017), in which what is right already counts less.

    Alpha is 0.25 and gamma 2, as in MaskFormer's `sigmoid_focal_loss`.
    """
    probs, others = jax.nn.sigmoid(logits), jax.nn.sigmoid(-logits)
    outside = (1 - FOCAL_ALPHA) * probs**2 * jax.nn.softplus(logits)
    inside = FOCAL_ALPHA * others**2 * jax.nn.softplus(-logits)
    return PixelLoss(outside, inside - outside)


PIXEL_LOSSES: Mapping[str, Callable[[Float[Array, "*points"]], PixelLoss]] = {
    "mask": cross_entropy,
    "focal": focal,
}
