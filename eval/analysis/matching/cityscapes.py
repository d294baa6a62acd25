"""Cityscapes' instances as the analyses take them: by the benchmark's own matches.

Axes: I images, K classes.
"""

import numpy as np

from ...metrics.cityscapes.matching import Matches, Pool, Status, precision_recall
from ..tallies.instances import InstanceTally
from .judged import Judged, places


def cityscapes_tally(pool: Pool, matches: Matches) -> InstanceTally:
    """Returns the tally of one choice of the objects that count."""
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
    """Returns predictions and objects at overlap 0.5, as the benchmark has it."""
    objects = np.flatnonzero(matches.counted)
    object_at = places(objects, len(matches.counted))
    pair_object = object_at[pool.pair_region]
    pairs = pair_object >= 0
    status = matches.status[:, 0]
    judged = Judged(
        class_names=tuple(pool.class_names),
        classes=pool.classes,
        scores=pool.scores,
        ignored=status == Status.IGNORED,
        object_class=pool.region_class[objects],
        matched=np.where(status == Status.TRUE, object_at[matches.region], -1),
        pair_prediction=pool.pair_prediction[pairs],
        pair_object=pair_object[pairs],
        pair_iou=pool.pair_iou[pairs],
    )
    return judged.at(np.lexsort((-pool.scores, pool.image)))


def cityscapes_ap(scores: np.ndarray, is_true: np.ndarray, num_objects: int) -> float:
    """Returns the benchmark's average precision of predictions by descending score."""
    if not num_objects:
        return np.nan
    return precision_recall(scores[::-1], is_true[::-1], num_objects).average_precision
