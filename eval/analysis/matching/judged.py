"""Matched predictions and objects, whatever the rules: what errors and confusion are told from.

Axes: P predictions, R objects, N pairs of a prediction and an object that share pixels.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int64

FOREGROUND = 0.5  # the overlap of a match


@dataclass(frozen=True, eq=False, kw_only=True)
class Judged:
    """Predictions and objects at one overlap.

    Attributes:
        class_names: the classes' names, by index.
        classes: index of each prediction's class; predictions are by image, then descending score.
        scores: its score.
        ignored: whether it costs nothing, as on a crowd.
        object_class: index of each object's class; objects are by image, without crowds and others
            that don't count.
        matched: the object that a prediction found, or -1.
        pair_prediction: index of a pair's prediction.
        pair_object: index of its object, of whatever class.
        pair_iou: intersection over union.
    """

    class_names: tuple[str, ...]
    classes: Int64[np.ndarray, "P"]
    scores: Float64[np.ndarray, "P"]
    ignored: Bool[np.ndarray, "P"]
    object_class: Int64[np.ndarray, "R"]
    matched: Int64[np.ndarray, "P"]
    pair_prediction: Int64[np.ndarray, "N"]
    pair_object: Int64[np.ndarray, "N"]
    pair_iou: Float64[np.ndarray, "N"]

    def at(self, kept: Int64[np.ndarray, "kept"]) -> "Judged":
        """Returns some of the predictions, in the order of these indices, and all objects."""
        prediction = places(kept, len(self.classes))[self.pair_prediction]
        pairs = prediction >= 0
        return replace(
            self,
            classes=self.classes[kept],
            scores=self.scores[kept],
            ignored=self.ignored[kept],
            matched=self.matched[kept],
            pair_prediction=prediction[pairs],
            pair_object=self.pair_object[pairs],
            pair_iou=self.pair_iou[pairs],
        )

    def without_ignored(self) -> "Judged":
        """Returns the predictions that cost or bring something, and all objects."""
        return self.at(np.flatnonzero(~self.ignored))


def places(kept: Int64[np.ndarray, "kept"], count: int) -> Int64[np.ndarray, "{count}+1"]:
    """Returns the new index of each of so many things, -1 if it isn't kept; -1 stays -1."""
    found = np.full(count + 1, -1)
    found[kept] = np.arange(len(kept))
    return found
