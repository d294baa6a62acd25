"""Which predicted instances are right, and their average precision, by the rules of Cityscapes.

Pure functions on the predictions and regions of all images, pooled. Everything is counted in
integers until the curve, so the order of images and predictions leaves no trace.

Axes: P predictions, R regions, K the evaluated classes, T overlaps, S distinct scores.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float64, Int8, Int32, Int64

OVERLAPS = np.arange(0.5, 1.0, 0.05)  # not linspace: 0.6 is 0.6000000000000001 here, as official


class Status(IntEnum):
    """What became of a prediction."""

    IGNORED = 0
    TRUE = 1
    FALSE = 2


@dataclass(frozen=True, eq=False, kw_only=True)
class Pool:
    """The predictions and regions of all images that belong to evaluated classes.

    Attributes:
        images: the images' names, by index.
        class_names: the classes' names, by index.
        region_id: instance id of each region, or label id of a group.
        region_image: its image index.
        region_class: its class index.
        region_is_object: False for a group of objects.
        region_areas: pixels.
        region_distances: median distance in metres and its confidence; -1 and 0 where unknown.
        image: image index of each prediction.
        classes: class index.
        scores: its score.
        areas: its pixels.
        void: those of its pixels that are void in the ground truth.
        pair_prediction: the prediction of each pair with pixels in common, of whatever classes.
        pair_region: its region.
        pair_pixels: how many pixels they share.
    """

    images: Sequence[str]
    class_names: Sequence[str]
    region_id: Int32[np.ndarray, "R"]
    region_image: Int64[np.ndarray, "R"]
    region_class: Int64[np.ndarray, "R"]
    region_is_object: Bool[np.ndarray, "R"]
    region_areas: Int64[np.ndarray, "R"]
    region_distances: Float64[np.ndarray, "R 2"]
    image: Int64[np.ndarray, "P"]
    classes: Int64[np.ndarray, "P"]
    scores: Float64[np.ndarray, "P"]
    areas: Int64[np.ndarray, "P"]
    void: Int64[np.ndarray, "P"]
    pair_prediction: Int64[np.ndarray, "pairs"]
    pair_region: Int64[np.ndarray, "pairs"]
    pair_pixels: Int64[np.ndarray, "pairs"]

    @cached_property
    def pair_iou(self) -> Float64[np.ndarray, "pairs"]:
        """Intersection over union of each pair; void isn't taken from the union."""
        areas = self.region_areas[self.pair_region] + self.areas[self.pair_prediction]
        return self.pair_pixels / (areas - self.pair_pixels)

    def count_by_class(self, regions: Bool[np.ndarray, "R"]) -> Int64[np.ndarray, "K"]:
        """Returns how many of these regions each class has."""
        classes = self.region_class[regions]
        return np.bincount(classes, minlength=len(self.class_names)).astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Which objects count; the others of their class are ignored regions, like groups.

    Attributes:
        min_area: the least area in pixels.
        max_area: the area from which on an object is too large.
        max_distance: the largest median distance in metres.
        min_confidence: the least confidence of that distance.
        predictions_too: whether a prediction without a match is ignored, too, if its own area is
            out of range. The benchmark never does that.
    """

    min_area: float = 100.0
    max_area: float = math.inf
    max_distance: float = math.inf
    min_confidence: float = -math.inf
    predictions_too: bool = False

    def in_range(self, areas: Int64[np.ndarray, "n"]) -> Bool[np.ndarray, "n"]:
        """Returns which areas are neither too small nor too large."""
        return (areas >= self.min_area) & (areas < self.max_area)


@dataclass(frozen=True, eq=False, kw_only=True)
class Matches:
    """Which predictions are right, by one choice of the objects that count.

    Attributes:
        counted: which regions are objects that count.
        region: the region of its own class with which a prediction has an IoU above 0.5, or -1.
        status: a `Status` per prediction and overlap.
    """

    counted: Bool[np.ndarray, "R"]
    region: Int64[np.ndarray, "P"]
    status: Int8[np.ndarray, "P T"]


def match(pool: Pool, counted: Counted) -> Matches:
    """Decides about every prediction at every overlap.

    As overlaps are at least 0.5 and regions are disjoint, a prediction can match one region only.
    Of the predictions that match an object, the best-scored is true and the others are false. One
    that matches an ignored region is ignored. One without a match is false, unless the part of it
    on void and ignored regions of its class exceeds the overlap; the limit moves with the overlap.
    """
    distance, confidence = pool.region_distances.T
    outside = ~counted.in_range(pool.region_areas)
    outside |= (distance > counted.max_distance) | (confidence < counted.min_confidence)
    counts = pool.region_is_object & ~outside
    # The official script counts a small group twice, once for either reason.
    times_ignored = outside.astype(np.int64) + ~pool.region_is_object

    own = np.flatnonzero(pool.region_class[pool.pair_region] == pool.classes[pool.pair_prediction])
    ignored = pool.void.copy()
    pixels = pool.pair_pixels[own] * times_ignored[pool.pair_region[own]]
    np.add.at(ignored, pool.pair_prediction[own], pixels)
    excused = ignored / pool.areas
    if counted.predictions_too:
        excused[~counted.in_range(pool.areas)] = np.inf

    region, iou = np.full(len(pool.scores), -1), np.zeros(len(pool.scores))
    strong = own[pool.pair_iou[own] > OVERLAPS[0]]
    region[pool.pair_prediction[strong]] = pool.pair_region[strong]
    iou[pool.pair_prediction[strong]] = pool.pair_iou[strong]
    on_object = np.append(counts, False)[region]  # the last is for no region, -1

    # By object, the best score first; between equal scores the choice changes no number.
    rivals = np.lexsort((-iou, -pool.scores, region))
    rivals = rivals[on_object[rivals]]
    status = np.empty((len(region), len(OVERLAPS)), np.int8)
    for t, overlap in enumerate(OVERLAPS):
        unmatched = np.where(excused <= overlap, Status.FALSE, Status.IGNORED)
        status[:, t] = np.where(iou > overlap, Status.IGNORED, unmatched)
        matching = rivals[iou[rivals] > overlap]
        is_best = np.diff(region[matching], prepend=-1) != 0
        status[matching, t] = np.where(is_best, Status.TRUE, Status.FALSE)
    return Matches(counted=counts, region=region, status=status)


@dataclass(frozen=True, eq=False, kw_only=True)
class Curve:
    """Precision and recall of the predictions with at least some score, for every distinct score.

    Attributes:
        scores: ascending.
        precision: at each score; then 1, a point that the benchmark adds.
        recall: at each score; then 0.
    """

    scores: Float64[np.ndarray, "S"]
    precision: Float64[np.ndarray, "S+1"]
    recall: Float64[np.ndarray, "S+1"]

    @property
    def average_precision(self) -> float:
        """The benchmark's integral: trapezoids under the raw curve.

        The operations are the official script's, so that not even the last bit differs. The order
        in which `np.dot` adds is the processor's, for the official script and here.
        """
        padded = np.concatenate([self.recall[:1], self.recall, [0.0]])
        return float(np.dot(self.precision, np.convolve(padded, [-0.5, 0, 0.5], "valid")))


def precision_recall(
    scores: Float64[np.ndarray, "n"], is_true: Bool[np.ndarray, "n"], num_objects: int
) -> Curve:
    """Returns the curve of predictions by ascending score; equal scores make one point."""
    first = np.flatnonzero(np.append(True, scores[1:] != scores[:-1])[: len(scores)])
    true_below = np.append(0, np.cumsum(is_true))
    true = true_below[-1] - true_below[first]
    return Curve(
        scores=scores[first],
        precision=np.append(true / (len(scores) - first), 1.0),
        recall=np.append(true / num_objects, 0.0),
    )


def class_curves(pool: Pool, matches: Matches, class_index: int) -> list[Curve]:
    """Returns the curves of one class, one per overlap; without objects, recall is 0."""
    num_objects = max(int(pool.count_by_class(matches.counted)[class_index]), 1)
    mine = np.flatnonzero(pool.classes == class_index)
    mine = mine[np.argsort(pool.scores[mine], kind="stable")]
    scores = pool.scores[mine]
    curves = []
    for status in matches.status[mine].T:
        judged = status != Status.IGNORED
        is_true = status[judged] == Status.TRUE
        curves.append(precision_recall(scores[judged], is_true, num_objects))
    return curves


def average_precisions(pool: Pool, matches: Matches) -> Float64[np.ndarray, "K T"]:
    """Computes AP by class and overlap; NaN without objects, 0 without predictions.

    Where every prediction of a class is ignored, the official script fails; the formula gives 0.
    """
    num_objects = pool.count_by_class(matches.counted)
    matrix = np.full((len(num_objects), len(OVERLAPS)), np.nan)
    for k in np.flatnonzero(num_objects):
        matrix[k] = [curve.average_precision for curve in class_curves(pool, matches, int(k))]
    return matrix


def only_ignored(pool: Pool, matches: Matches) -> Bool[np.ndarray, "K T"]:
    """Returns where a class has objects and all its predictions are ignored (official crash)."""
    has_objects = pool.count_by_class(matches.counted) > 0
    judged = np.zeros((len(has_objects), len(OVERLAPS)), bool)
    np.logical_or.at(judged, pool.classes, matches.status != Status.IGNORED)
    has_predictions = np.isin(np.arange(len(has_objects)), pool.classes)
    return ~judged & (has_objects & has_predictions)[:, None]


def mean_ap(matrix: Float64[np.ndarray, "*any"]) -> float:
    """Returns the mean of what isn't NaN, or NaN; the same operation as the official script's."""
    return math.nan if np.isnan(matrix).all() else float(np.nanmean(matrix))
