"""Which predictions of COCO's instances are right at one overlap, as TIDE's package matches them.

It takes the best hundred predictions of an image, of all classes together, where COCO takes a
hundred of each class.
"""

import math
from itertools import groupby

import numpy as np

from .judged import FOREGROUND, Judged
from .overlaps import Overlaps, rank

MOST = 100  # predictions of an image
RECALLS = np.arange(101) / 100


def tide_judged(overlaps: Overlaps) -> Judged:
    """Returns predictions and objects at overlap 0.5, for `analyze_errors`.

    By descending score, each prediction takes the free object of its class that it overlaps most.
    One that takes none and lies on a crowd of its class by more than half is ignored.
    """
    place = rank((overlaps.image,), overlaps.scores)
    kept = np.lexsort((place, overlaps.image))
    kept = kept[place[kept] < MOST]
    prediction, object_, iou = overlaps.pair_prediction, overlaps.pair_object, overlaps.pair_iou
    same, on_group = overlaps.same_class, overlaps.is_group[object_]

    close = np.flatnonzero(same & ~on_group & (iou >= FOREGROUND) & (place[prediction] < MOST))
    turns = overlaps.image[prediction[close]], place[prediction[close]]
    close = close[np.lexsort((object_[close], -iou[close], turns[1], turns[0]))]
    matched, free = np.full(len(place), -1), np.ones(len(overlaps.is_group), bool)
    rows = zip(prediction[close].tolist(), object_[close].tolist(), strict=True)
    for one, candidates in groupby(rows, key=lambda row: row[0]):
        matched[one] = chosen = next((other for _, other in candidates if free[other]), -1)
        free[chosen] &= chosen < 0
    ignored = np.zeros(len(place), bool)
    ignored[prediction[same & on_group & (iou > FOREGROUND)]] = True
    return overlaps.judged(matched, ignored & (matched < 0)).at(kept)


def tide_ap(scores: np.ndarray, is_true: np.ndarray, num_objects: int) -> float:
    """Returns TIDE's average precision of predictions by descending score; 0 without objects.

    It is COCO's, but a class that was only predicted counts, with 0.
    """
    del scores
    if not num_objects or not len(is_true):
        return 0.0
    found = np.cumsum(is_true)
    precision = found / np.arange(1, len(found) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]
    places = np.searchsorted(found / num_objects, RECALLS, side="left")
    return math.fsum(np.append(best, 0.0)[places]) / len(RECALLS)
