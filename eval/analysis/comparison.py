"""Two finished evaluations of the same images: what got better and what worse.

Axes: I images, K classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from .bootstrap import COVERAGE, RESAMPLES, SEED, Differences, differences
from .finished import Finished
from .tallies.instances import InstanceTally
from .tallies.tally import Tally, mean_of_classes, whole


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison:
    """The scores of two evaluations, as fractions, and their differences, second minus first.

    Attributes:
        name: of the score, such as "AP".
        scores: of the first and of the second.
        change: their difference with its interval, and that of each class.
        class_names: the classes' names, by index.
        class_scores: of the first and of the second; NaN where there is nothing to score.
        image_name: of the images' score; of instances it is "F1".
        images: the images' names, by index.
        image_scores: of the first and of the second.
    """

    name: str
    scores: tuple[float, float]
    change: Differences
    class_names: tuple[str, ...]
    class_scores: tuple[Float64[np.ndarray, "K"], Float64[np.ndarray, "K"]]
    image_name: str
    images: tuple[str, ...]
    image_scores: tuple[Float64[np.ndarray, "I"], Float64[np.ndarray, "I"]]

    @property
    def image_changes(self) -> Float64[np.ndarray, "I"]:
        """By how much each image got better; NaN where it has nothing to score in one of them."""
        return self.image_scores[1] - self.image_scores[0]

    def verdict(self) -> str:
        """Says in words whether the difference is more than chance."""
        return verdict(self.change.low, self.change.high)

    def class_rows(self) -> list[dict[str, Any]]:
        """Returns a row for each class, in percent."""
        first, second = self.class_scores
        change = self.change
        columns = (first, second, change.class_scores, change.class_low, change.class_high)
        names = ("first", "second", "change", "low", "high")
        return [
            {"class": name}
            | {key: 100 * value for key, value in zip(names, values, strict=True)}
            | {"verdict": verdict(values[3], values[4])}
            for name, *values in zip(
                self.class_names, *(column.tolist() for column in columns), strict=True
            )
        ]

    def image_rows(self) -> list[dict[str, Any]]:
        """Returns a row for each image, in percent."""
        columns = (*self.image_scores, self.image_changes)
        return [
            {"image": name, "first": 100 * first, "second": 100 * second, "change": 100 * change}
            for name, first, second, change in zip(
                self.images, *(column.tolist() for column in columns), strict=True
            )
        ]

    def to_json(self) -> dict[str, Any]:
        """Returns all of it as plain values, in percent."""
        return {
            "score": self.name,
            "first": 100 * self.scores[0],
            "second": 100 * self.scores[1],
            "change": 100 * self.change.score,
            "low": 100 * self.change.low,
            "high": 100 * self.change.high,
            "verdict": self.verdict(),
            "better in resamples": 100 * self.change.better,
            "intervals": {"coverage": COVERAGE, "resamples of images": RESAMPLES, "seed": SEED},
            "classes": self.class_rows(),
            "image score": self.image_name,
            "images": self.image_rows(),
        }

    def changed_images(self, most: int) -> tuple[list[int], list[int]]:
        """Returns the indices of the images that improved most, and of those that worsened most."""
        changes = np.nan_to_num(self.image_changes)
        order = np.argsort(-changes, kind="stable")
        better = [int(i) for i in order[:most] if changes[i] > 0]
        worse = [int(i) for i in order[::-1][:most] if changes[i] < 0]
        return better, worse


def verdict(low: float, high: float) -> str:
    """Says in words what the interval of a difference means."""
    if math.isnan(low):
        return "nothing to compare"
    return "better" if low > 0 else "worse" if high < 0 else "no clear difference"


def compare(first: Finished, second: Finished) -> Comparison:
    """Compares two evaluations of the same data.

    Raises:
        ValueError: they are of different tasks or data; the message says what differs.
    """
    if difference := difference_between(first, second):
        raise ValueError(
            f"{first.folder} and {second.folder} can't be compared: {difference}; score both "
            "models on the same images"
        )
    tally = first.tally
    image_name = "F1" if isinstance(tally, InstanceTally) else tally.score
    return comparison_of(tally.score, image_name, tally, second.tally)


def compare_boundaries(first: Finished, second: Finished) -> Comparison | None:
    """Compares the boundary measures of two evaluations that can be compared.

    Returns:
        The comparison; None if one of them has none, or with boundaries of another width.
    """
    one, other = first.boundary, second.boundary
    if one is None or other is None or one.dilation_ratio != other.dilation_ratio:
        return None
    return comparison_of(one.name, one.image_name, one.tally, other.tally)


def boundary_problem(first: Finished, second: Finished) -> str | None:
    """Says why boundary measures aren't compared; None if they are, or if there is none."""
    one, other = first.boundary, second.boundary
    if one is not None and other is not None:
        if one.dilation_ratio == other.dilation_ratio:
            return None
        ratios = f"{one.dilation_ratio:g} and {other.dilation_ratio:g}"
        return f"{one.name} isn't compared: boundaries are of other widths, {ratios}"
    if (found := one or other) is None:
        return None
    has, lacks = (first, second) if other is None else (second, first)
    return (
        f"{found.name} isn't compared: only {has.folder} has it; score {lacks.folder} with "
        "--boundary, too"
    )


def comparison_of(name: str, image_name: str, one: Tally, other: Tally) -> Comparison:
    """Compares two tallies of the same images and classes.

    Args:
        name: of the score.
        image_name: of the images' score.
        one: the first.
        other: the second.
    """
    class_scores = [tally.class_scores(whole(len(tally.images)))[0] for tally in (one, other)]
    means = [float(mean_of_classes(scores)) for scores in class_scores]
    return Comparison(
        name=name,
        scores=(means[0], means[1]),
        change=differences(one, other),
        class_names=one.class_names,
        class_scores=(class_scores[0], class_scores[1]),
        image_name=image_name,
        images=one.images,
        image_scores=(one.image_scores(), other.image_scores()),
    )


def difference_between(first: Finished, second: Finished) -> str | None:
    """Says in what the data of two evaluations differ; None if they don't."""
    one, other = first.tally, second.tally
    rules = [getattr(tally, "rule", None) for tally in (one, other)]
    if (first.task, one.kind) != (second.task, other.kind):
        return f"one is of the task {first.task}, the other of {second.task}"
    if rules[0] != rules[1]:
        return f"one is by the rules of {rules[0]}, the other by those of {rules[1]}"
    if one.class_names != other.class_names:
        return "their classes differ: " + only(one.class_names, other.class_names)
    if one.images != other.images:
        return f"one is of {len(one.images)} images, the other of {len(other.images)}: " + only(
            one.images, other.images
        )
    return difference_of_truth(one, one.truth(), other.truth())


def only(first: Sequence[str], second: Sequence[str]) -> str:
    """Says which names one of two has alone."""
    parts = [
        f"only the {which} has {', '.join(sorted(names)[:3])}"
        for which, names in (
            ("first", set(first) - set(second)),
            ("second", set(second) - set(first)),
        )
        if names
    ]
    return "; ".join(parts) or "they come in another order"


def difference_of_truth(
    tally: Tally, first: Int64[np.ndarray, "I K"], second: Int64[np.ndarray, "I K"]
) -> str | None:
    """Says where the ground truths of the same images differ; None if they don't."""
    if (first == second).all():
        return None
    i, k = np.argwhere(first != second)[0].tolist()
    return (
        f"the ground truth differs, first in {tally.images[i]}, where {tally.class_names[k]} has "
        f"{first[i, k]} in one and {second[i, k]} in the other"
    )
