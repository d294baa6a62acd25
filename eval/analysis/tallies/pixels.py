"""The tally of semantic segmentation: pixels by image and class.

Axes: I images, K classes, W weightings.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from ...metrics.semantic.semantic_iou import SemanticIoU
from .tally import mean_of_classes


@dataclass(frozen=True, eq=False, kw_only=True)
class PixelTally:
    """Pixels of each image and evaluated class.

    Attributes:
        images: the images' names, by index.
        class_names: the classes' names, by index.
        pixels: true positives, false positives and false negatives.
    """

    kind: ClassVar[str] = "pixels"
    score: ClassVar[str] = "mIoU"
    images: tuple[str, ...]
    class_names: tuple[str, ...]
    pixels: Int64[np.ndarray, "I K 3"]

    @classmethod
    def of(cls, metric: SemanticIoU) -> "PixelTally":
        """Returns the tally of a metric's images."""
        evaluated = np.array([row.evaluated for row in metric.classes])
        images = sorted(metric.images)
        pixels = np.zeros((len(images), len(evaluated), 3), np.int64)
        for i, image in enumerate(images):
            for k, *counts in image.areas:
                pixels[i, k] = counts
        return cls(
            images=tuple(image.image for image in images),
            class_names=tuple(row.name for row in metric.classes if row.evaluated),
            pixels=pixels[:, evaluated],
        )

    def class_scores(self, weights: Int64[np.ndarray, "W I"]) -> Float64[np.ndarray, "W K"]:
        """Returns the IoU of each class; NaN where it has no pixel, neither true nor predicted."""
        return iou(np.einsum("wi,ikn->wkn", weights, self.pixels))

    def image_scores(self) -> Float64[np.ndarray, "I"]:
        """Returns the mean IoU of each image, of the classes that are in it or were predicted."""
        return mean_of_classes(iou(self.pixels))

    def image_counts(self) -> Mapping[str, Int64[np.ndarray, "I"]]:
        """Returns pixels of a class that are right, and those that aren't."""
        right, _, missed = self.pixels.sum(axis=1).T
        return {"right pixels": right, "wrong pixels": missed}

    def class_counts(self) -> Mapping[str, Int64[np.ndarray, "K"]]:
        """Returns pixels that are right, false and missed."""
        right, false, missed = self.pixels.sum(axis=0).T
        return {"right pixels": right, "false pixels": false, "missed pixels": missed}

    def truth(self) -> Int64[np.ndarray, "I K"]:
        """Returns pixels of the ground truth."""
        return self.pixels[..., 0] + self.pixels[..., 2]

    def to_arrays(self) -> dict[str, Any]:
        """Returns all of it as arrays of a file."""
        return {"pixels": self.pixels}


def iou(pixels: Int64[np.ndarray, "N K 3"]) -> Float64[np.ndarray, "N K"]:
    """Returns the IoU of counted pixels; NaN where there are none."""
    union = pixels.sum(axis=-1)
    return np.where(union > 0, pixels[..., 0] / np.maximum(union, 1), np.nan)
