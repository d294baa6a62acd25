"""Which predictions are right by COCO's rules, at every overlap, as pycocotools matches them.

Axes: P predictions, R objects, T overlaps.
"""

import math
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ...metrics.cityscapes.matching import Status
from ..tallies.instances import InstanceTally
from .judged import Judged
from .overlaps import Overlaps, rank

OVERLAPS = np.linspace(0.5, 0.95, 10)
EVERY_SIZE = (0.0, math.inf)
SIZES = {  # of areas in pixels; both ends belong to a range, as in pycocotools
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, math.inf),
}


def coco_tally(overlaps: Overlaps, size: tuple[float, float] = EVERY_SIZE) -> InstanceTally:
    """Matches predictions and objects, and returns their tally.

    Args:
        overlaps: all of them; of tracks, for every size only.
        size: the range of areas that count. Objects out of it are ignored, and so are predictions
            out of it that match nothing.
    """
    low, high = size
    ignored = overlaps.is_group | (overlaps.object_areas < low) | (overlaps.object_areas > high)
    found = match(overlaps, ignored)
    status = np.where(np.append(ignored, False)[found], Status.IGNORED, Status.TRUE)
    unmatched = found < 0
    status[unmatched] = Status.FALSE
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
        status=status.astype(np.int8),
        objects=objects,
    )


def coco_judged(overlaps: Overlaps) -> Judged:
    """Returns predictions and objects at overlap 0.5, by the same matches."""
    found = match(overlaps, overlaps.is_group)[:, 0]
    on_group = np.append(overlaps.is_group, False)[found]
    judged = overlaps.judged(np.where(on_group, -1, found), on_group)
    return judged.at(np.lexsort((-overlaps.scores, overlaps.image)))


def match(overlaps: Overlaps, ignored: Bool[np.ndarray, "R"]) -> Int64[np.ndarray, "P T"]:
    """Returns the object that each prediction takes at each overlap, or -1.

    By descending score, each prediction takes the object of its class that it overlaps most among
    those that are free; one that is ignored only if it can have no other. Several may take a group.
    """
    found = np.full((len(overlaps.scores), len(OVERLAPS)), -1)
    close = np.flatnonzero(overlaps.same_class & (overlaps.pair_iou >= OVERLAPS[0]))
    prediction, object_ = overlaps.pair_prediction[close], overlaps.pair_object[close]
    order = np.lexsort((object_, ignored[object_], prediction))  # ignored ones last
    iou, object_ = overlaps.pair_iou[close][order], object_[order]
    ones, first, numbers = np.unique(prediction[order], return_index=True, return_counts=True)
    # Images and classes are matched apart, so the best predictions of all of them are matched at
    # once, then the second best, and so on.
    turns = rank((overlaps.image[ones], overlaps.classes[ones]), overlaps.scores[ones])
    by_turn = np.argsort(turns, kind="stable")
    taken = np.zeros((len(ignored), len(OVERLAPS)), bool)
    for now in np.split(by_turn, np.cumsum(np.bincount(turns))[:-1]):
        candidates = Candidates(object_, iou, first[now], numbers[now])
        found[ones[now]] = take(candidates, taken, ignored, overlaps.is_group)
    return found


class Candidates(NamedTuple):
    """Objects that predictions may take; those of a prediction one after another."""

    objects: Int64[np.ndarray, "N"]
    iou: Float64[np.ndarray, "N"]
    first: Int64[np.ndarray, "P"]
    """Where those of a prediction begin, the ignored ones last."""
    numbers: Int64[np.ndarray, "P"]


def take(
    candidates: Candidates,
    taken: Bool[np.ndarray, "R T"],
    ignored: Bool[np.ndarray, "R"],
    is_group: Bool[np.ndarray, "R"],
) -> Int64[np.ndarray, "P T"]:
    """Gives predictions of different images or classes their objects at each overlap.

    Args:
        candidates: the objects that each prediction may take.
        taken: which objects are taken, at each overlap; updated here.
        ignored: which objects cost and bring nothing.
        is_group: which objects several predictions may take.

    Returns:
        The object that each prediction takes at each overlap, or -1.
    """
    chosen = np.full((len(candidates.first), len(OVERLAPS)), -1)
    best = np.tile(OVERLAPS, (len(chosen), 1))
    for k in range(candidates.numbers.max(initial=0)):
        having = np.flatnonzero(candidates.numbers > k)
        places = candidates.first[having] + k
        objects, iou = candidates.objects[places, None], candidates.iou[places, None]
        earlier = chosen[having]
        better = (iou >= best[having]) & (is_group[objects] | ~taken[objects[:, 0]])
        better &= ~ignored[objects] | (earlier < 0) | ignored[earlier]
        chosen[having] = np.where(better, objects, earlier)
        best[having] = np.where(better, iou, best[having])
    matched = np.nonzero(chosen >= 0)
    taken[chosen[matched], matched[1]] = True
    return chosen
