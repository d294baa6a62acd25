"""What comes out of instance evaluation: the benchmark's numbers, and what a report shows besides.

Axes: I images, P predictions, K the evaluated classes, T overlaps.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Float64, Int8, Int64

from .matching import (
    OVERLAPS,
    Counted,
    Curve,
    Matches,
    Pool,
    Status,
    average_precisions,
    class_curves,
    match,
    mean_ap,
)

SIZE_BORDERS = (100.0, 32.0**2, 96.0**2, math.inf)  # pixels: COCO's borders, from the least area on


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageCounts:
    """Counts by image and class at overlap 0.5.

    Attributes:
        images: names; the rows.
        true: predictions that match an object.
        false: predictions that match none, or one that a better-scored prediction has.
        missed: objects that no prediction of their class matches.
        ignored: predictions that cost nothing: on void, groups, or objects that don't count.
    """

    images: Sequence[str]
    true: Int64[np.ndarray, "I K"]
    false: Int64[np.ndarray, "I K"]
    missed: Int64[np.ndarray, "I K"]
    ignored: Int64[np.ndarray, "I K"]


def image_counts(pool: Pool, matches: Matches, min_score: float) -> ImageCounts:
    """Returns the counts of each image, without the predictions under a score."""
    shape = len(pool.images), len(pool.class_names)

    def table(image: Int64[np.ndarray, "n"], class_: Int64[np.ndarray, "n"]):
        cells = np.bincount(image * shape[1] + class_, minlength=shape[0] * shape[1])
        return cells.reshape(shape).astype(np.int64)

    status = np.where(pool.scores >= min_score, matches.status[:, 0], -1)
    counts = {s: table(pool.image[status == s], pool.classes[status == s]) for s in Status}
    objects = table(pool.region_image[matches.counted], pool.region_class[matches.counted])
    return ImageCounts(
        images=pool.images,
        true=counts[Status.TRUE],
        false=counts[Status.FALSE],
        missed=objects - counts[Status.TRUE],
        ignored=counts[Status.IGNORED],
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Calibration:
    """How often predictions of a score are true at overlap 0.5; ignored ones are left out.

    Attributes:
        count: predictions in each bin.
        edges: borders of the bins. A score on a border belongs to the upper bin, one outside of 0
            to 1 to the outermost.
        mean_score: mean score in each bin, NaN where there are none.
        true_fraction: the part that is true, NaN where there are none.
    """

    count: Int64[np.ndarray, "bins"]
    edges: Float64[np.ndarray, "bins+1"]
    mean_score: Float64[np.ndarray, "bins"]
    true_fraction: Float64[np.ndarray, "bins"]


def calibration(
    scores: Float64[np.ndarray, "P"], status: Int8[np.ndarray, "P"], bins: int = 10
) -> Calibration:
    """Returns scores beside the truth, in bins of equal width."""
    edges = np.arange(bins + 1) / bins
    judged = status != Status.IGNORED
    scores, is_true = scores[judged], status[judged] == Status.TRUE
    bin_ = np.clip(np.searchsorted(edges, scores, side="right") - 1, 0, bins - 1)
    count = np.bincount(bin_, minlength=bins)
    # fsum rounds once, so the order of the images leaves no trace.
    total = np.array([math.fsum(scores[bin_ == i]) for i in range(bins)])
    true = np.bincount(bin_[is_true], minlength=bins)
    divisor = np.where(count > 0, count, np.nan)
    return Calibration(
        count=count.astype(np.int64),
        edges=edges,
        mean_score=total / divisor,
        true_fraction=true / divisor,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class SizeAP:
    """Average precision on the objects of one range of sizes.

    Attributes:
        min_area: the least area in pixels.
        max_area: the area from which on an object is too large.
        num_objects: objects of each class in the range.
        ap_matrix: AP by class and overlap; NaN where a class has no object in the range.
    """

    min_area: float
    max_area: float
    num_objects: Int64[np.ndarray, "K"]
    ap_matrix: Float64[np.ndarray, "K T"]

    @property
    def ap(self) -> float:
        """The mean over classes and overlaps."""
        return mean_ap(self.ap_matrix)

    @property
    def ap50(self) -> float:
        """The mean over classes at overlap 0.5."""
        return mean_ap(self.ap_matrix[:, 0])


def size_aps(pool: Pool, borders: Sequence[float]) -> list[SizeAP]:
    """Computes average precision by object size, between one border and the next.

    Not part of the benchmark. Its rules hold, and besides: objects out of the range are ignored
    regions, as those too small to count are; and, as in COCO, a prediction without a match is
    ignored if its own area is out of the range.
    """
    results = []
    for low, high in pairwise(borders):
        matches = match(pool, Counted(min_area=low, max_area=high, predictions_too=True))
        results.append(
            SizeAP(
                min_area=low,
                max_area=high,
                num_objects=pool.count_by_class(matches.counted),
                ap_matrix=average_precisions(pool, matches),
            )
        )
    return results


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceAPResult:
    """The benchmark's numbers, as fractions, and what a report needs besides.

    Attributes:
        pool: all predictions and regions.
        matches: which predictions are right, by the benchmark's rules.
        ap_matrix: AP by class and overlap; NaN where a class has no object.
        near: the same within 100 m and 50 m; empty if no distances were given.
    """

    pool: Pool
    matches: Matches
    ap_matrix: Float64[np.ndarray, "K T"]
    near: Mapping[int, Float64[np.ndarray, "K T"]]

    @property
    def ap(self) -> float:
        """AP, the mean over classes and overlaps; NaN if nothing counts."""
        return mean_ap(self.ap_matrix)

    @property
    def ap50(self) -> float:
        """AP at overlap 0.5, the mean over classes."""
        return mean_ap(self.ap_matrix[:, 0])

    @property
    def ap100m(self) -> float | None:
        """AP within 100 m; None if no distances were given."""
        return mean_ap(self.near[100]) if self.near else None

    @property
    def ap50m(self) -> float | None:
        """AP within 50 m; None if no distances were given."""
        return mean_ap(self.near[50]) if self.near else None

    @property
    def ap5050m(self) -> float | None:
        """AP at overlap 0.5 within 50 m; None if no distances were given."""
        return mean_ap(self.near[50][:, 0]) if self.near else None

    @property
    def per_class(self) -> dict[str, dict[str, float]]:
        """The numbers of each class, named as in the official file: ap, ap50% and so on."""
        numbers = {}
        for k, name in enumerate(self.pool.class_names):
            row = self.ap_matrix[k]
            numbers[name] = {"ap": float(np.average(row)), "ap50%": float(row[0])}
            for metres, matrix in self.near.items():
                numbers[name][f"ap{metres}m"] = float(np.average(matrix[k]))
            if self.near:
                numbers[name]["ap50%50m"] = float(self.near[50][k, 0])
        return numbers

    def to_json(self) -> dict[str, Any]:
        """Returns what the official script writes to its result file."""
        averages = {"allAp": self.ap, "allAp50%": self.ap50, "classes": self.per_class}
        if self.near:
            averages |= {"allAp100m": self.ap100m, "allAp50m": self.ap50m}
            averages["allAp50%50m"] = self.ap5050m
        return {
            "averages": averages,
            "overlaps": OVERLAPS.tolist(),
            "minRegionSizes": [100, 1000, 1000],
            "distanceThresholds": [math.inf, 100.0, 50.0],
            "minStereoDensities": [-math.inf, 0.5, 0.5],
            "instLabels": list(self.pool.class_names),
            "resultApMatrix": [matrix.tolist() for matrix in (self.ap_matrix, *self.near.values())],
        }

    def curve(self, class_name: str, overlap: float = 0.5) -> Curve:
        """Returns precision and recall of one class at one of the 10 overlaps.

        Raises:
            ValueError: there is no such class or overlap.
        """
        found = np.flatnonzero(np.isclose(OVERLAPS, overlap))
        if class_name not in self.pool.class_names or not found.size:
            raise ValueError(
                f"no curve of {class_name!r} at {overlap}; the classes are "
                f"{', '.join(self.pool.class_names)}, the overlaps {OVERLAPS.round(2).tolist()}"
            )
        class_index = list(self.pool.class_names).index(class_name)
        return class_curves(self.pool, self.matches, class_index)[found[0]]

    def image_counts(self, min_score: float = -math.inf) -> ImageCounts:
        """Counts true, false, missed and ignored by image and class at overlap 0.5."""
        return image_counts(self.pool, self.matches, min_score)

    def calibration(self, bins: int = 10) -> Calibration:
        """Returns how often predictions of a score are true at overlap 0.5."""
        return calibration(self.pool.scores, self.matches.status[:, 0], bins)

    def size_aps(self, borders: Sequence[float] = SIZE_BORDERS) -> list[SizeAP]:
        """Computes AP by object size; see the function `size_aps`."""
        return size_aps(self.pool, borders)
