"""What is wrong with predicted instances, and what mending it would bring.

The kinds of errors and their costs are those of TIDE (Bolya et al., "TIDE: A General Toolbox for
Identifying Object Detection Errors", ECCV 2020), as the authors' package tidecv computes them.

Axes: P predictions, R objects, N pairs of a prediction and an object that share pixels, K classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int64

from .matching.judged import FOREGROUND, Judged

BACKGROUND = 0.1  # the overlap up to which a prediction is on nothing

AveragePrecision = Callable[[np.ndarray, np.ndarray, int], float]
"""Of a class's predictions by descending score: their scores, which are true, how many objects."""


class Error(IntEnum):
    """What is wrong with a prediction, or (missed) with an object."""

    CLASSIFICATION = 0
    LOCALISATION = 1
    BOTH = 2
    DUPLICATE = 3
    BACKGROUND = 4
    MISSED = 5


NO_ERROR = -1
PREDICTED = tuple(error for error in Error if error != Error.MISSED)


@dataclass(frozen=True, eq=False, kw_only=True)
class ErrorAnalysis:
    """Errors, their numbers and costs.

    Attributes:
        class_names: the classes' names, by index.
        ap: average precision at overlap 0.5, as a fraction.
        kind: an `Error` of each prediction, or -1.
        counts: how many errors of each kind each class has: of the prediction's class, of a missed
            object that of the object.
        gains: for each kind, how much higher AP would be with these errors mended.
        gain_false_positives: the same, if no prediction were false.
        gain_false_negatives: the same, if every object were found, with precision as it is.
    """

    class_names: tuple[str, ...]
    ap: float
    kind: Int64[np.ndarray, "P"]
    counts: Int64[np.ndarray, "K 6"]
    gains: dict[Error, float]
    gain_false_positives: float
    gain_false_negatives: float


class Points(NamedTuple):
    """What average precision is computed of; equal scores are taken in this order."""

    classes: Int64[np.ndarray, "M"]
    scores: Float64[np.ndarray, "M"]
    is_true: Bool[np.ndarray, "M"]

    def at(self, indices: np.ndarray) -> "Points":
        """Returns some of them, in the order of the indices."""
        return Points(self.classes[indices], self.scores[indices], self.is_true[indices])


def analyze_errors(judged: Judged, average_precision: AveragePrecision) -> ErrorAnalysis:
    """Finds each error's kind, and mends one kind after another.

    Mended, an error of the class or of the outline becomes a match of the object that it is nearest
    to, if this is free and no better-scored error is nearest to it; a missed object is no longer
    asked for; all other false predictions vanish. A gain below zero, which ties may bring, is 0.
    """
    num_classes = len(judged.class_names)
    kind, target = kinds(judged)
    is_found = np.zeros(len(judged.object_class), bool)
    is_found[judged.matched[judged.matched >= 0]] = True
    is_missed = ~is_found
    is_missed[target[target >= 0]] = False
    is_first = np.zeros(len(kind), bool)  # of the errors nearest to an object, by score
    nearest, first = np.unique(target, return_index=True)
    is_first[first[nearest >= 0]] = True

    def ap(points: Points, counted: Bool[np.ndarray, "R"]) -> float:
        objects = np.bincount(judged.object_class[counted], minlength=num_classes)
        return mean_of_aps(points, objects, average_precision)

    right = judged.matched >= 0
    wrong = ~right & ~judged.ignored
    every = np.ones_like(is_found)
    now = Points(judged.classes, judged.scores, right)
    base = ap(now.at(np.flatnonzero(right | wrong)), every)
    order = np.argsort(right, kind="stable")  # errors first, as in the authors' package
    left = order[(right | wrong)[order]]
    gains = {Error.MISSED: ap(now.at(left), ~is_missed) - base}
    for error in PREDICTED:
        these = kind == error
        to_match = these & is_first
        classes = judged.classes.copy()
        classes[to_match] = judged.object_class[target[to_match]]
        mended = Points(classes, judged.scores, right | to_match)
        kept = (right | wrong) & ~these | to_match
        gains[error] = ap(mended.at(order[kept[order]]), every) - base
    known = now._replace(scores=right.astype(np.float64))
    return ErrorAnalysis(
        class_names=judged.class_names,
        ap=base,
        kind=kind,
        counts=error_counts(judged, kind, is_missed),
        gains={error: max(gains[error], 0.0) for error in Error},
        gain_false_positives=ap(known.at(left), every) - base,
        gain_false_negatives=ap(now.at(left), is_found) - base,
    )


def kinds(judged: Judged) -> tuple[Int64[np.ndarray, "P"], Int64[np.ndarray, "P"]]:
    """Returns each prediction's `Error`, -1 of a true one, and the free object nearest to it.

    The latter is of errors of the class and of the outline, and -1 where there is none.
    """
    same = judged.classes[judged.pair_prediction] == judged.object_class[judged.pair_object]
    is_found = np.zeros(len(judged.object_class), bool)
    is_found[judged.matched[judged.matched >= 0]] = True
    own, own_object = nearest(judged, same)
    other, other_object = nearest(judged, ~same)
    doubled, _ = nearest(judged, same & is_found[judged.pair_object])
    tests = {  # the first one that holds decides
        Error.LOCALISATION: (own >= BACKGROUND) & (own <= FOREGROUND),
        Error.CLASSIFICATION: other >= FOREGROUND,
        Error.DUPLICATE: doubled >= FOREGROUND,
        Error.BACKGROUND: np.maximum(own, other) <= BACKGROUND,
    }
    kind = np.select([*tests.values()], [*tests], Error.BOTH).astype(np.int64)
    kind[judged.matched >= 0] = NO_ERROR
    target = np.select(
        [kind == Error.LOCALISATION, kind == Error.CLASSIFICATION], [own_object, other_object], -1
    ).astype(np.int64)
    target[np.append(is_found, False)[target]] = -1  # the last is for no object
    return kind, target


def nearest(
    judged: Judged, which: Bool[np.ndarray, "N"]
) -> tuple[Float64[np.ndarray, "P"], Int64[np.ndarray, "P"]]:
    """Returns each prediction's largest overlap and its first object; 0 and -1 without any."""
    iou = np.zeros(len(judged.scores))
    object_ = np.full(len(judged.scores), -1)
    pairs = np.flatnonzero(which)
    keys = judged.pair_object, -judged.pair_iou, judged.pair_prediction
    pairs = pairs[np.lexsort([key[pairs] for key in keys])]
    predictions, first = np.unique(judged.pair_prediction[pairs], return_index=True)
    iou[predictions] = judged.pair_iou[pairs[first]]
    object_[predictions] = judged.pair_object[pairs[first]]
    return iou, object_


def error_counts(
    judged: Judged, kind: Int64[np.ndarray, "P"], is_missed: Bool[np.ndarray, "R"]
) -> Int64[np.ndarray, "K 6"]:
    """Returns how many errors of each kind each class has."""
    counts = np.zeros((len(judged.class_names), len(Error)), np.int64)
    wrong = kind != NO_ERROR
    np.add.at(counts, (judged.classes[wrong], kind[wrong]), 1)
    np.add.at(counts[:, Error.MISSED], judged.object_class[is_missed], 1)
    return counts


def mean_of_aps(
    points: Points, objects: Int64[np.ndarray, "K"], average_precision: AveragePrecision
) -> float:
    """Returns the mean of the classes that have predictions or objects; NaN are left out."""
    aps = []
    for k, num_objects in enumerate(objects.tolist()):
        mine = np.flatnonzero(points.classes == k)
        if len(mine) or num_objects:
            mine = mine[np.argsort(-points.scores[mine], kind="stable")]
            aps.append(average_precision(points.scores[mine], points.is_true[mine], num_objects))
    known = [ap for ap in aps if not math.isnan(ap)]
    return sum(known) / len(known) if known else math.nan
