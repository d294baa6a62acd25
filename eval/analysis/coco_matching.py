"""Which predictions are right by COCO's rules, at every overlap, as pycocotools matches them.

Axes: P predictions, R objects, T overlaps.
"""

import math
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from jaxtyping import Bool

from ..metrics.instances.matching import Status
from .overlaps import Overlaps
from .tallies.instances import InstanceTally

OVERLAPS = np.linspace(0.5, 0.95, 10)
EVERY_SIZE = (0.0, math.inf)
SIZES = {  # of areas in pixels; both ends belong to a range, as in pycocotools
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, math.inf),
}


def coco_tally(overlaps: Overlaps, size: tuple[float, float] = EVERY_SIZE) -> InstanceTally:
    """Matches predictions and objects.

    Args:
        overlaps: all of them; of tracks, for every size only.
        size: the range of areas that count. Objects out of it are ignored, and so are predictions
            out of it that match nothing.
    """
    low, high = size
    ignored = overlaps.is_group | (overlaps.object_areas < low) | (overlaps.object_areas > high)
    status = match(overlaps, ignored)
    unmatched = status == Status.FALSE
    outside = (overlaps.areas < low) | (overlaps.areas > high)
    status[unmatched & outside[:, None]] = Status.IGNORED
    objects = np.zeros((len(overlaps.images), len(overlaps.class_names)), np.int64)
    np.add.at(objects, (overlaps.object_image[~ignored], overlaps.object_class[~ignored]), 1)
    return InstanceTally(
        images=overlaps.images,
        class_names=overlaps.class_names,
        rule="coco",
        image=overlaps.image,
        classes=overlaps.classes,
        scores=overlaps.scores,
        status=status,
        objects=objects,
    )


def match(overlaps: Overlaps, ignored: Bool[np.ndarray, "R"]) -> np.ndarray:
    """A `Status` for each prediction and overlap, int8 [P, T].

    By descending score, each prediction takes the object of its class that it overlaps most among
    those that are free; one that is ignored only if it can have no other. Several may take a group.
    """
    status = np.full((len(overlaps.scores), len(OVERLAPS)), Status.FALSE, np.int8)
    close = np.flatnonzero(overlaps.same_class & (overlaps.pair_iou >= OVERLAPS[0]))
    prediction, object_ = overlaps.pair_prediction[close], overlaps.pair_object[close]
    # Images and classes share nothing, so only the scores within both decide the order.
    keys = object_, ignored[object_], prediction, -overlaps.scores[prediction]
    order = np.lexsort(keys)
    rows = zip(
        prediction[order].tolist(),
        object_[order].tolist(),
        overlaps.pair_iou[close][order].tolist(),
        strict=True,
    )
    taken = np.zeros((len(ignored), len(OVERLAPS)), bool)
    for one, candidates in groupby(rows, key=lambda row: row[0]):
        status[one] = take([row[1:] for row in candidates], taken, ignored, overlaps.is_group)
    return status


def take(
    candidates: Sequence[tuple[int, float]],
    taken: Bool[np.ndarray, "R T"],
    ignored: Bool[np.ndarray, "R"],
    is_group: Bool[np.ndarray, "R"],
) -> np.ndarray:
    """Gives one prediction its object at each overlap, and returns its `Status` there, int8 [T].

    Args:
        candidates: objects and their overlaps, the ignored ones last.
        taken: which objects are; changed here.
        ignored: which ones cost and bring nothing.
        is_group: which ones several predictions may take.
    """
    chosen = np.full(len(OVERLAPS), -1)
    best = OVERLAPS.copy()
    for object_, iou in candidates:
        better = (iou >= best) & (is_group[object_] | ~taken[object_])
        if ignored[object_]:
            better &= (chosen < 0) | ignored[chosen]
        chosen[better] = object_
        best[better] = iou
    matched = np.flatnonzero(chosen >= 0)
    taken[chosen[matched], matched] = True
    status = np.full(len(OVERLAPS), Status.FALSE, np.int8)
    status[matched] = np.where(ignored[chosen[matched]], Status.IGNORED, Status.TRUE)
    return status
