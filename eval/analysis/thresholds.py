"""The score from which on predictions of a class are best: where F1 is highest at overlap 0.5."""

import math
from dataclasses import dataclass

import numpy as np

from ..metrics.cityscapes.matching import Status
from .tallies.instances import InstanceTally, f1


@dataclass(frozen=True, kw_only=True)
class BestThreshold:
    """A class's best threshold.

    Attributes:
        score: the least score of predictions to keep; NaN without a true prediction.
        precision: the part of the kept predictions that is true; NaN likewise.
        recall: the part of the objects that is found; NaN without objects.
        f1: the harmonic mean of both; 0 without a true prediction, NaN without objects.
    """

    score: float
    precision: float
    recall: float
    f1: float


def best_thresholds(tally: InstanceTally) -> list[BestThreshold]:
    """Returns the best threshold of each class: of several as good, the highest."""
    status, objects = tally.status[:, 0], tally.objects.sum(axis=0)
    found = []
    for k, num_objects in enumerate(objects.tolist()):
        mine = np.flatnonzero((tally.classes == k) & (status != Status.IGNORED))
        mine = mine[np.argsort(-tally.scores[mine], kind="stable")]
        scores, true = tally.scores[mine], np.cumsum(status[mine] == Status.TRUE)
        ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]), len(scores) - 1)
        if not num_objects or not len(scores) or not true[-1]:
            none = 0.0 if num_objects else math.nan
            found.append(BestThreshold(score=math.nan, precision=math.nan, recall=none, f1=none))
            continue
        right, kept = true[ends], ends + 1
        values = f1(right, kept - right, num_objects - right)
        at = int(values.argmax())
        found.append(
            BestThreshold(
                score=float(scores[ends[at]]),
                precision=float(right[at] / kept[at]),
                recall=float(right[at] / num_objects),
                f1=float(values[at]),
            )
        )
    return found
