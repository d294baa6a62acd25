"""The tally of average precision: which predictions are right at each overlap.

Axes: I images, K classes, P predictions, T overlaps, W weightings, S predictions of a class by
descending score.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64

from ...metrics.cityscapes.matching import Status

AT_A_TIME = 4_000_000  # numbers in an array of a thread; it bounds the memory
THREADS = 4  # NumPy works on long arrays outside of Python's lock
SHOWN = 0.5  # least score of the predictions that are counted by image, and drawn
RECALLS = np.linspace(0.0, 1.0, 101)  # of COCO's curve

Rule = Literal["coco", "cityscapes"]


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceTally:
    """What became of each prediction, and the number of objects of each image.

    Attributes:
        images: the images' names, by index.
        class_names: the classes' names, by index.
        rule: by whose rules precision is averaged.
        image: index of each prediction's image.
        classes: index of its class.
        scores: its score.
        status: a `Status` at each overlap, 0.5, 0.55 and so on to 0.95.
        objects: how many objects count, by image and class.
    """

    kind: ClassVar[str] = "instances"
    score: ClassVar[str] = "AP"
    images: tuple[str, ...]
    class_names: tuple[str, ...]
    rule: Rule
    image: Int64[np.ndarray, "P"]
    classes: Int64[np.ndarray, "P"]
    scores: Float64[np.ndarray, "P"]
    status: np.ndarray  # int8 [P, T]
    objects: Int64[np.ndarray, "I K"]

    def class_scores(self, weights: Int64[np.ndarray, "W I"]) -> Float64[np.ndarray, "W K"]:
        """Returns the AP of each class, the mean over the overlaps; NaN without objects."""
        return self.average_precisions(weights).mean(axis=-1)

    def average_precisions(self, weights: Int64[np.ndarray, "W I"]) -> Float64[np.ndarray, "W K T"]:
        """Returns the AP of each class at each overlap; NaN without objects.

        A prediction of an image that is there several times counts as so many predictions of one
        score, one after another.
        """
        of_images = np.ascontiguousarray(weights.T, np.int32)  # a prediction's weights lie together

        def of_class(k: int) -> Float64[np.ndarray, "W T"]:
            mine = np.flatnonzero(self.classes == k)
            mine = mine[np.argsort(-self.scores[mine], kind="stable")]
            objects = weights @ self.objects[:, k]
            step = max(AT_A_TIME // max(len(mine), 1), 1)
            parts = [
                weighted_aps(
                    of_images[self.image[mine], start : start + step],
                    self.scores[mine],
                    self.status[mine],
                    objects[start : start + step],
                    self.rule,
                )
                for start in range(0, len(weights), step)
            ]
            return np.concatenate(parts)

        with ThreadPoolExecutor(THREADS) as pool:
            aps = list(pool.map(of_class, range(len(self.class_names))))
        return np.stack(aps, axis=1) if aps else np.zeros((len(weights), 0, self.status.shape[1]))

    def image_scores(self) -> Float64[np.ndarray, "I"]:
        """Returns the F1 of each image at overlap 0.5, of predictions with a score of at least 0.5.

        That is right / (right + (false + missed) / 2), all classes together.
        """
        right, false, missed = self.image_counts().values()
        return f1(right, false, missed)

    def image_counts(self) -> Mapping[str, Int64[np.ndarray, "I"]]:
        """Returns right, false and missed at overlap 0.5, of predictions scored 0.5 or higher."""
        status = np.where(self.scores >= SHOWN, self.status[:, 0], Status.IGNORED)
        right, false = (
            np.bincount(self.image[status == kind], minlength=len(self.images)).astype(np.int64)
            for kind in (Status.TRUE, Status.FALSE)
        )
        return {"right": right, "false": false, "missed": self.objects.sum(axis=1) - right}

    def class_counts(self) -> Mapping[str, Int64[np.ndarray, "K"]]:
        """Returns objects and predictions that count at overlap 0.5; then as `image_counts`."""
        status, shown = self.status[:, 0], self.scores >= SHOWN

        def count(which: Bool[np.ndarray, "P"]) -> Int64[np.ndarray, "K"]:
            found = np.bincount(self.classes[which], minlength=len(self.class_names))
            return found.astype(np.int64)

        objects, right = self.objects.sum(axis=0), count(shown & (status == Status.TRUE))
        return {
            "objects": objects,
            "predictions": count(status != Status.IGNORED),
            "right": right,
            "false": count(shown & (status == Status.FALSE)),
            "missed": objects - right,
        }

    def truth(self) -> Int64[np.ndarray, "I K"]:
        """Returns how many objects count."""
        return self.objects

    def to_arrays(self) -> dict[str, Any]:
        """Returns all of it as arrays of a file."""
        names = ("image", "classes", "scores", "status", "objects")
        return {"rule": self.rule} | {name: getattr(self, name) for name in names}


def f1(right: np.ndarray, false: np.ndarray, missed: np.ndarray) -> np.ndarray:
    """Returns the harmonic mean of precision and recall, of counts; NaN where there are none."""
    total = 2 * right + false + missed
    return np.where(total > 0, 2 * right / np.maximum(total, 1), np.nan)


def weighted_aps(
    weights: Int32[np.ndarray, "S W"],
    scores: Float64[np.ndarray, "S"],
    status: np.ndarray,
    objects: Int64[np.ndarray, "W"],
    rule: Rule,
) -> Float64[np.ndarray, "W T"]:
    """Returns the AP of one class at each overlap, of predictions that count several times.

    Args:
        weights: how many times.
        scores: descending.
        status: int8 [S, T].
        objects: how many there are.
        rule: by whose rules precision is averaged.
    """
    aps = np.zeros((len(objects), status.shape[1]))
    ends = np.append(np.flatnonzero(scores[1:] != scores[:-1]) + 1, len(scores))
    tie_of = np.searchsorted(ends, np.arange(len(scores)), side="right")  # one point of the curve
    rights = [np.flatnonzero(column == Status.TRUE) for column in status.T]
    if rule == "coco":
        places = [right + 1 for right in rights]
    else:
        ties = [np.unique(tie_of[right]) for right in rights]
        places = [np.concatenate([ends[tie], np.append(0, ends)[tie]]) for tie in ties]
    wanted = np.unique(np.concatenate([np.zeros(0, int), *places]))
    sums = sums_before(weights, wanted)
    for t, (right, place) in enumerate(zip(rights, places, strict=True)):
        ignored = np.flatnonzero(status[:, t] == Status.IGNORED)
        counted = sums[np.searchsorted(wanted, place)]
        if len(ignored):
            counted -= sums_before(weights[ignored], np.searchsorted(ignored, place))
        found = np.cumsum(weights[right], axis=0, dtype=np.int32)
        if rule == "coco":
            aps[:, t] = area_of_101_bars(found, counted, objects)
        else:
            found = found[np.flatnonzero(np.diff(tie_of[right], append=-1))]  # whole ties
            end, start = np.split(counted, 2)
            aps[:, t] = area_of_trapezoids(found, end, start, objects)
    return np.where(objects[:, None] > 0, aps, np.nan)


def sums_before(
    weights: Int32[np.ndarray, "S W"], places: Int64[np.ndarray, "N"]
) -> Int32[np.ndarray, "N W"]:
    """Returns the sums of each column's numbers before some places."""
    ends = np.unique(places[places > 0])
    sums = np.zeros((len(ends) + 1, weights.shape[1]), np.int32)
    if len(ends):
        parts = np.add.reduceat(weights[: ends[-1]], np.append(0, ends[:-1]), axis=0)
        np.cumsum(parts, axis=0, out=sums[1:])
    return sums[np.searchsorted(ends, places, side="right")]


def area_of_101_bars(
    found: Int32[np.ndarray, "N W"],
    counted: Int32[np.ndarray, "N W"],
    objects: Int64[np.ndarray, "W"],
) -> Float64[np.ndarray, "W"]:
    """Returns COCO's average precision: monotone precision, sampled at 101 recalls.

    Only true predictions are looked at, since between them precision only falls.

    Args:
        found: true predictions down to each true one.
        counted: all predictions down to it.
        objects: how many there are.
    """
    if not len(found):
        return np.zeros(len(objects))
    best = found / (counted + np.spacing(1))
    np.maximum.accumulate(best[::-1], axis=0, out=best[::-1])
    totals, column = np.unique(objects, return_inverse=True)
    recalls = np.arange(found[-1].max() + 1) / np.maximum(totals, 1)[:, None]
    bars = np.searchsorted(RECALLS, recalls, side="right")  # of each recall that there can be
    reached = bars.ravel()[found + column * bars.shape[1]]
    best[0] *= reached[0]
    best[1:] *= reached[1:] - reached[:-1]
    return best.sum(axis=0) / len(RECALLS)


def area_of_trapezoids(
    found: Int32[np.ndarray, "N W"],
    counted: Int32[np.ndarray, "N W"],
    counted_above: Int32[np.ndarray, "N W"],
    objects: Int64[np.ndarray, "W"],
) -> Float64[np.ndarray, "W"]:
    """Returns Cityscapes' average precision: trapezoids under the raw curve, from precision 1.

    Only scores at which recall grows are looked at, since the others have no width.

    Args:
        found: true predictions down to each score.
        counted: all predictions down to it.
        counted_above: all predictions with higher scores.
        objects: how many there are.
    """
    before = np.concatenate([np.zeros((1, len(objects)), np.int32), found[:-1]])
    here = found / np.maximum(counted, 1)
    above = np.where(counted_above > 0, before / np.maximum(counted_above, 1), 1.0)
    width = (found - before) / np.maximum(objects, 1)
    return (width * (here + above) / 2).sum(axis=0)
