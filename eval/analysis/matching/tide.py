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
    """Predictions and objects at overlap 0.5, for `analyze_errors`.

    By descending score, each prediction takes the free object of its class that it overlaps most.
    One that takes none and lies on a crowd of its class by more than half is ignored.
    """
    kept = np.flatnonzero(rank((overlaps.image,), overlaps.scores) < MOST)
    kept = kept[np.lexsort((-overlaps.scores[kept], overlaps.image[kept]))]
    objects = np.flatnonzero(~overlaps.is_group)
    prediction_at = np.full(len(overlaps.scores), -1)
    prediction_at[kept] = np.arange(len(kept))
    object_at = np.full(len(overlaps.is_group), -1)
    object_at[objects] = np.arange(len(objects))

    prediction, object_ = prediction_at[overlaps.pair_prediction], overlaps.pair_object
    iou, same = overlaps.pair_iou, overlaps.same_class & (prediction >= 0)
    matched = np.full(len(kept), -1)
    close = np.flatnonzero(same & ~overlaps.is_group[object_] & (iou >= FOREGROUND))
    close = close[np.lexsort((object_[close], -iou[close], prediction[close]))]
    rows = zip(prediction[close].tolist(), object_at[object_[close]].tolist(), strict=True)
    free = np.ones(len(objects), bool)
    for one, candidates in groupby(rows, key=lambda row: row[0]):
        chosen = next((other for _, other in candidates if free[other]), -1)
        matched[one] = chosen
        free[chosen] &= chosen < 0

    on_group = np.zeros(len(kept), bool)
    on_group[prediction[same & overlaps.is_group[object_] & (iou > FOREGROUND)]] = True
    pairs = (prediction >= 0) & ~overlaps.is_group[object_]
    return Judged(
        class_names=overlaps.class_names,
        classes=overlaps.classes[kept],
        scores=overlaps.scores[kept],
        ignored=on_group & (matched < 0),
        object_class=overlaps.object_class[objects],
        matched=matched,
        pair_prediction=prediction[pairs],
        pair_object=object_at[object_[pairs]],
        pair_iou=iou[pairs],
    )


def tide_ap(scores: np.ndarray, is_true: np.ndarray, num_objects: int) -> float:
    """TIDE's average precision of predictions by descending score; 0 without objects.

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
