"""Cityscapes' instances as the analyses take them: by the benchmark's own matches.

Axes: I images, K classes.
"""

import numpy as np

from ...metrics.cityscapes.matching import Matches, Pool, Status, precision_recall
from ..tallies.instances import InstanceTally
from .judged import Judged


def cityscapes_tally(pool: Pool, matches: Matches) -> InstanceTally:
    """The tally of one choice of the objects that count."""
    objects = np.zeros((len(pool.images), len(pool.class_names)), np.int64)
    counted = matches.counted
    np.add.at(objects, (pool.region_image[counted], pool.region_class[counted]), 1)
    return InstanceTally(
        images=tuple(pool.images),
        class_names=tuple(pool.class_names),
        rule="cityscapes",
        image=pool.image,
        classes=pool.classes,
        scores=pool.scores,
        status=matches.status,
        objects=objects,
    )


def cityscapes_judged(pool: Pool, matches: Matches) -> Judged:
    """Predictions and objects at overlap 0.5, as the benchmark has it, for `analyze_errors`.

    Ignored predictions (on void, groups and tiny objects) are left out, since they cost nothing.
    """
    kept = np.flatnonzero(matches.status[:, 0] != Status.IGNORED)
    kept = kept[np.lexsort((-pool.scores[kept], pool.image[kept]))]
    objects = np.flatnonzero(matches.counted)
    prediction_at = np.full(len(pool.scores), -1)
    prediction_at[kept] = np.arange(len(kept))
    object_at = np.full(len(matches.counted) + 1, -1)  # the last is for no region
    object_at[objects] = np.arange(len(objects))
    prediction, object_ = prediction_at[pool.pair_prediction], object_at[pool.pair_region]
    pairs = (prediction >= 0) & (object_ >= 0)
    right = matches.status[kept, 0] == Status.TRUE
    return Judged(
        class_names=tuple(pool.class_names),
        classes=pool.classes[kept],
        scores=pool.scores[kept],
        ignored=np.zeros(len(kept), bool),
        object_class=pool.region_class[objects],
        matched=np.where(right, object_at[matches.region[kept]], -1),
        pair_prediction=prediction[pairs],
        pair_object=object_[pairs],
        pair_iou=pool.pair_iou[pairs],
    )


def cityscapes_ap(scores: np.ndarray, is_true: np.ndarray, num_objects: int) -> float:
    """The benchmark's average precision of predictions by descending score; NaN without objects."""
    if not num_objects:
        return np.nan
    return precision_recall(scores[::-1], is_true[::-1], num_objects).average_precision
