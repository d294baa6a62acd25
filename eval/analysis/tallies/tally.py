"""What the tallies of all tasks have in common.

Axes: I images, K classes, W weightings of the images.
"""

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float64, Int64


@runtime_checkable
class Tally(Protocol):
    """What was counted in each image; it is made once, and no image is looked at again.

    Attributes:
        kind: the name of the tally in files.
        score: the name of the score, such as "AP".
        images: the names of the images.
        class_names: the names of the classes.
    """

    kind: ClassVar[str]
    score: ClassVar[str]

    @property
    def images(self) -> tuple[str, ...]: ...

    @property
    def class_names(self) -> tuple[str, ...]: ...

    def class_scores(self, weights: Int64[np.ndarray, "W I"], /) -> Float64[np.ndarray, "W K"]:
        """Returns each class's score, as a fraction, if each image is there so many times.

        NaN where a class has nothing to score; the mean of the others is the score of all.
        """
        ...

    def image_scores(self) -> Float64[np.ndarray, "I"]:
        """Returns a number for each image alone, from 0 to 1; NaN where it has nothing to score."""
        ...

    def image_counts(self) -> Mapping[str, Int64[np.ndarray, "I"]]:
        """Returns what was counted in each image, by names for a table."""
        ...

    def class_counts(self) -> Mapping[str, Int64[np.ndarray, "K"]]:
        """Returns what was counted of each class, by names for a table."""
        ...

    def truth(self) -> Int64[np.ndarray, "I K"]:
        """Returns how much each image has of each class in the ground truth."""
        ...

    def to_arrays(self) -> dict[str, Any]:
        """Returns all of it as arrays of a file."""
        ...


def whole(num_images: int) -> Int64[np.ndarray, "1 I"]:
    """Returns the weights of the data set as it is: each image once."""
    return np.ones((1, num_images), np.int64)


def mean_of_classes(scores: Float64[np.ndarray, "*W K"]) -> Float64[np.ndarray, "*W"]:
    """Returns the mean of the classes that aren't NaN; NaN where there are none."""
    known = ~np.isnan(scores)
    total = np.where(known, scores, 0.0).sum(axis=-1)
    count = known.sum(axis=-1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
