"""The tally of panoptic quality: sums of IoU and counts of segments, by image and class.

Axes: I images, K classes, W weightings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from ...metrics.panoptic.panoptic_quality import PanopticQuality
from ...metrics.panoptic.segment_counts import TP
from .tally import mean_of_classes


@dataclass(frozen=True, eq=False, kw_only=True)
class SegmentTally:
    """Segments of each image and class.

    Attributes:
        images: the images' names, by index.
        class_names: the classes' names, by index.
        iou: the sum of the IoU of matched segments.
        counts: true positives, false positives and false negatives.
    """

    kind: ClassVar[str] = "segments"
    score: ClassVar[str] = "PQ"
    images: tuple[str, ...]
    class_names: tuple[str, ...]
    iou: Float64[np.ndarray, "I K"]
    counts: Int64[np.ndarray, "I K 3"]

    @classmethod
    def of(cls, metric: PanopticQuality) -> "SegmentTally":
        """Returns the tally of a metric's images."""
        images = sorted(metric.outcomes)
        classes = {label.id: k for k, label in enumerate(metric.categories)}
        shape = len(images), len(classes)
        iou, counts = np.zeros(shape), np.zeros((*shape, 3), np.int64)
        for i, image in enumerate(images):
            for category, kind, intersection, union in image.outcomes:
                k = classes[category]
                counts[i, k, kind] += 1
                iou[i, k] += intersection / union if kind == TP else 0.0
        return cls(
            images=tuple(image.image for image in images),
            class_names=tuple(label.name for label in metric.categories),
            iou=iou,
            counts=counts,
        )

    def class_scores(self, weights: Int64[np.ndarray, "W I"]) -> Float64[np.ndarray, "W K"]:
        """Returns the panoptic quality of each class; NaN without segments."""
        return quality(weights @ self.iou, np.einsum("wi,ikn->wkn", weights, self.counts))

    def image_scores(self) -> Float64[np.ndarray, "I"]:
        """Returns each image's panoptic quality, the mean of the classes it has segments of."""
        return mean_of_classes(quality(self.iou, self.counts))

    def image_counts(self) -> Mapping[str, Int64[np.ndarray, "I"]]:
        """Segments that are right, false and missed."""
        right, false, missed = self.counts.sum(axis=1).T
        return {"right": right, "false": false, "missed": missed}

    def class_counts(self) -> Mapping[str, Int64[np.ndarray, "K"]]:
        """Segments that are right, false and missed."""
        right, false, missed = self.counts.sum(axis=0).T
        return {"right": right, "false": false, "missed": missed}

    def truth(self) -> Int64[np.ndarray, "I K"]:
        """Segments of the ground truth that count."""
        return self.counts[..., 0] + self.counts[..., 2]

    def to_arrays(self) -> dict[str, Any]:
        """Returns all of it as arrays of a file."""
        return {"iou": self.iou, "counts": self.counts}


def quality(
    iou: Float64[np.ndarray, "N K"], counts: Int64[np.ndarray, "N K 3"]
) -> Float64[np.ndarray, "N K"]:
    """Returns the panoptic quality of sums of IoU and counts; NaN where nothing was counted."""
    weight = counts[..., 0] + 0.5 * counts[..., 1] + 0.5 * counts[..., 2]
    return np.where(weight > 0, iou / np.maximum(weight, 0.5), np.nan)
