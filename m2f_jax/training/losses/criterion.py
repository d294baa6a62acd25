"""What training minimises: class, mask and dice losses of every prediction (Sec. 3.3, 4.1).

Mask2Former's are taken at random points, MaskFormer's (Cheng et al., NeurIPS 2021, Sec. 3.3) over
whole masks.

A loss is a weighted sum of `terms`. In clips, an object is matched once, by all its masks. Its mask
losses are summed over the frames, each of which has its own points, so they grow with the number of
frames, as the authors' do.

The numbers are those of the authors' `SetCriterion` and `HungarianMatcher` on one device, whatever
the number of devices that a batch is spread over. On several, theirs divides each device's sums of
mask and dice losses by the mean number of targets per device, and averages the gradients; the
result is the same as ours. Their class loss is each device's own weighted mean, averaged over
devices; ours is the weighted mean over all images.

Axes: L predictions (of each layer, and Mask2Former's of the learned queries), B images or clips, T
frames of a clip, Q queries, K classes and "no object", M targets.
"""

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from m2f_jax.ops.resize import nearest_taps, resize_bilinear
from m2f_jax.ops.sampling import random_points
from m2f_jax.structures import LayerPredictions, Predictions, Targets
from m2f_jax.training.config import LossConfig, TrainConfig
from m2f_jax.training.losses.clips import frames_as_images
from m2f_jax.training.losses.matching import match, matching_costs
from m2f_jax.training.losses.pairs import LossPoints, choose_points, pair_sums
from m2f_jax.training.losses.terms import BatchTerm, PairTerm, weighted_terms


class Losses(NamedTuple):
    """The total loss, the terms that it is the weighted sum of, and what was matched."""

    total: Float[Array, ""]
    terms: dict[str, Float[Array, "L"]]  # before weighting
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
    """Computes the losses of a batch, in float32 throughout and finite for finite predictions.

    Each prediction is matched on its own, with its own points. Only `total` and `terms` have
    derivatives, and these by the predictions only; reverse mode, first order.

    Args:
        predictions: one per layer (`all_layers=True`); or those of all layers with masks as
            factors, which takes less memory and time.
        targets: M may be any number. If it is above Q, the Q targets that cost least are matched.
        config: weights and numbers of points, or a training run's config that has them.
        key: the key of the random points; unused if `points` is given.
        points: the points to take instead of random ones.

    Raises:
        ValueError: shapes don't fit one another, or a term is unknown.
    """
    if isinstance(config, TrainConfig):
        config = config.loss
    terms = tuple(weighted_terms(config).items())
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
    losses = compute(predictions, targets, terms, config, key, points)
    return losses._replace(assignment=losses.assignment[..., :num_targets])


@functools.partial(jax.jit, static_argnames=("terms", "config"))
def compute(
    predictions: LayerPredictions,
    targets: Targets,
    terms: tuple[tuple[str, PairTerm | BatchTerm], ...],
    config: LossConfig,
    key: jax.Array,
    points: LossPoints | None,
) -> Losses:
    """Computes the losses; arguments are already validated."""
    class_logits, mask_embeddings, per_pixel = predictions
    labels, masks, valid = map(jnp.asarray, targets)
    matching_key, mask_key = jax.random.split(key)

    to_match, shared = masks, None
    if config.num_points is None:
        *_, height, width, _ = per_pixel.shape
        if config.pixels == "images":
            to_match = nearest_masks(masks, (height, width))
        else:
            masks = to_match = masks_at_size(masks, (height, width))
    elif points is None:
        shape = (*class_logits.shape[:2], config.num_points)
        shared = random_points(matching_key, shape)
    else:
        shared = points.matching
    costs = matching_costs(
        jax.lax.stop_gradient(predictions),
        labels,
        to_match,
        shared,
        config=config,
    )
    assignment, non_finite_costs = match(costs, valid)

    images = frames_as_images(mask_embeddings, per_pixel, masks, assignment)
    embeddings, pixels, _, queries = images
    chosen = choose_points(embeddings, pixels, queries, config, mask_key, points)
    of_pairs = {name: term.function for name, term in terms if isinstance(term, PairTerm)}
    sums: Any = pair_sums(tuple(of_pairs.values()), *images, chosen)
    num_masks = jnp.maximum(valid.sum(), 1).astype(jnp.float32)
    values = {name: x.sum(axis=1) / num_masks for name, x in zip(of_pairs, sums, strict=True)}
    for name, term in terms:
        if isinstance(term, BatchTerm):
            values[name] = term.function(predictions, targets, assignment, config)
    weighted = [weight * values[name] for name, weight in config.weights.items()]
    total = functools.reduce(operator.add, weighted).sum()
    return Losses(total, values, assignment, non_finite_costs)


@jax.jit
def factor(predictions: tuple[Predictions, ...]) -> LayerPredictions:
    """Wraps explicit mask logits as `LayerPredictions` with one-hot embeddings."""
    class_logits = jnp.stack([x.class_logits.astype(jnp.float32) for x in predictions])
    mask_logits = jnp.stack([x.mask_logits.astype(jnp.float32) for x in predictions])
    num_queries = class_logits.shape[2]
    own = jnp.broadcast_to(jnp.eye(num_queries), (*class_logits.shape[:3], num_queries))
    return LayerPredictions(class_logits, own, jnp.moveaxis(mask_logits, 2, -1))


def masks_at_size(
    masks: Bool[Array, "B M *T H W"], size: tuple[int, int]
) -> Float[Array, "B M *T {size[0]} {size[1]}"]:
    """Samples the masks at the centres of all pixels of a map of this size."""
    maps = jax.lax.collapse(masks, 0, masks.ndim - 2)[..., None].astype(jnp.float32)
    return resize_bilinear(maps, size).reshape(*masks.shape[:-2], *size)


def nearest_masks(
    masks: Bool[Array, "B M *T H W"], size: tuple[int, int]
) -> Bool[Array, "B M *T {size[0]} {size[1]}"]:
    """Takes the masks at the nearest pixel of each pixel of a map of this size."""
    rows, columns = map(nearest_taps, masks.shape[-2:], size)
    return masks[..., rows[:, None], columns]


def check_shapes(
    predictions: LayerPredictions | Sequence[Predictions],
    targets: Targets,
    config: LossConfig,
    points: LossPoints | None,
):
    """Checks that the arrays fit one another.

    Raises:
        ValueError: they don't; the message has both shapes.
    """
    labels, masks, valid = (jnp.shape(x) for x in targets)
    frames = masks[2:-2]
    if isinstance(predictions, LayerPredictions):
        num_predictions, batch, *_ = predictions.class_logits.shape
        *maps, height, width, _ = predictions.per_pixel.shape
        if maps == [num_predictions, batch, *frames]:  # each prediction has its own
            del maps[0]
    else:
        if not predictions or isinstance(predictions, Predictions):
            found = "one Predictions" if predictions else "empty"
            raise ValueError(f"predictions is {found}; expected one per layer (all_layers=True)")
        shapes = {(x.class_logits.shape, x.mask_logits.shape) for x in predictions}
        if len(shapes) > 1:
            raise ValueError(f"predictions differ in shape: {sorted(shapes)}")
        num_predictions = len(predictions)
        [((batch, *_), (maps_batch, _, *maps_frames, height, width))] = shapes
        maps = [maps_batch, *maps_frames]
    expected = batch, labels[-1]
    size = tuple(-(-x // 4) for x in masks[-2:])
    if (
        (labels, masks[:2], valid) != (expected,) * 3
        or size != (height, width)
        or maps != [batch, *frames]
    ):
        raise ValueError(
            f"targets has labels {labels}, masks {masks}, valid {valid}; expected [B, M], "
            f"[B, M, H, W] or of clips [B, M, T, H, W], [B, M] with B = {batch} and H x W the "
            f"input of mask logits at stride 4, {height} x {width}"
        )
    if points is not None:
        if config.num_points is None:
            raise ValueError("points are given, but LossConfig.num_points is None: whole masks")
        images = num_predictions, batch * math.prod(frames), labels[1]
        num_extra = config.num_points - config.num_uncertain
        expected = (
            (num_predictions, batch, config.num_points, 2),
            (*images, config.num_candidates, 2),
            (*images, num_extra, 2),
        )
        found = tuple(jnp.shape(x) for x in points)
        if found != expected:
            raise ValueError(f"points has shapes {found}; expected {expected}")
