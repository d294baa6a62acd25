"""Predicted instances, objects, and how much they overlap, of all images together.

Axes: P predictions, R objects, N pairs of a prediction and an object that share pixels.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from .judged import Judged, places


@dataclass(frozen=True, eq=False, kw_only=True)
class Overlaps:
    """All predictions and objects of a data set, and the pairs of them that overlap.

    Attributes:
        images: the images' names, by index.
        class_names: the classes' names, by index.
        image: index of each prediction's image; ascending.
        classes: index of its class.
        scores: its score.
        areas: its pixels.
        object_image: index of each object's image; ascending.
        object_class: index of its class.
        object_areas: its area.
        is_group: whether it is a crowd or group of objects, which predictions may lie on for free.
        pair_prediction: index of a pair's prediction; ascending.
        pair_object: index of its object, of whatever class; ascending within a prediction.
        pair_iou: intersection over union; with a group, over the prediction's area.
    """

    images: tuple[str, ...]
    class_names: tuple[str, ...]
    image: Int64[np.ndarray, "P"]
    classes: Int64[np.ndarray, "P"]
    scores: Float64[np.ndarray, "P"]
    areas: Float64[np.ndarray, "P"]
    object_image: Int64[np.ndarray, "R"]
    object_class: Int64[np.ndarray, "R"]
    object_areas: Float64[np.ndarray, "R"]
    is_group: Bool[np.ndarray, "R"]
    pair_prediction: Int64[np.ndarray, "N"]
    pair_object: Int64[np.ndarray, "N"]
    pair_iou: Float64[np.ndarray, "N"]

    def judged(self, matched: Int64[np.ndarray, "P"], ignored: Bool[np.ndarray, "P"]) -> Judged:
        """Returns the predictions and the objects that are no groups.

        Args:
            matched: the object, no group, that each prediction found, or -1.
            ignored: which predictions cost nothing.
        """
        objects = np.flatnonzero(~self.is_group)
        object_at = places(objects, len(self.is_group))
        pair_object = object_at[self.pair_object]
        pairs = pair_object >= 0
        return Judged(
            class_names=self.class_names,
            classes=self.classes,
            scores=self.scores,
            ignored=ignored,
            object_class=self.object_class[objects],
            matched=object_at[matched],
            pair_prediction=self.pair_prediction[pairs],
            pair_object=pair_object[pairs],
            pair_iou=self.pair_iou[pairs],
        )

    @property
    def same_class(self) -> Bool[np.ndarray, "N"]:
        """Which pairs are of one class."""
        return self.classes[self.pair_prediction] == self.object_class[self.pair_object]


def rank(groups: tuple[Int64[np.ndarray, "P"], ...], scores: Float64[np.ndarray, "P"]):
    """Returns the place of each prediction in its group by descending score, from 0; int64 [P].

    Equal scores keep their order.
    """
    order = np.lexsort((-scores, *groups))
    changes = np.zeros(len(order), bool)
    for group in groups:
        changes |= np.diff(group[order], prepend=-1) != 0
    starts = np.maximum.accumulate(np.where(changes, np.arange(len(order)), 0))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - starts
    return places
