"""The scores of semantic segmentation, from counted pixels and objects; pure functions.

Axes: K classes, with those that aren't evaluated; rows of a table are ground truth.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int

from ..cityscapes.ids import SemanticClass


@dataclass(frozen=True, kw_only=True)
class Score:
    """Intersection over union, and the same with every object weighted alike.

    NaN where there is no pixel; `iiou` also without instance ids and for classes without objects.
    """

    iou: float
    iiou: float = math.nan


@dataclass(frozen=True, eq=False, kw_only=True)
class SemanticIoUResult:
    """Fractions; means leave out what is NaN.

    Attributes:
        miou: mean IoU of the classes.
        iiou: mean instance-level IoU of the classes.
        category_miou: mean IoU of the categories.
        category_iiou: mean instance-level IoU of the categories.
        per_class: by name, the evaluated classes.
        per_category: by name, the categories of evaluated classes.
        classes: all classes, in the order of the confusion table.
        confusion: pixels of each class (row) that were predicted as each class (column).
    """

    miou: float
    iiou: float
    category_miou: float
    category_iiou: float
    per_class: dict[str, Score]
    per_category: dict[str, Score]
    classes: tuple[SemanticClass, ...]
    confusion: Int[np.ndarray, "K K"]

    def to_json(self) -> dict[str, Any]:
        """Returns the official result file; None stands for NaN."""
        classes = [row.name for row in self.classes]
        total = int(self.confusion.sum())
        none = Score(iou=math.nan)

        def scores(names: Iterable[str], found: dict[str, Score], kind: str) -> dict[str, Any]:
            return {name: _json(getattr(found.get(name, none), kind)) for name in names}

        return {
            "confMatrix": self.confusion.tolist(),
            "priors": {
                name: _json(int(row.sum()) / total if total else math.nan)
                for name, row in zip(classes, self.confusion, strict=True)
            },
            "labels": {name: number for number, name in enumerate(classes)},
            "classScores": scores(classes, self.per_class, "iou"),
            "classInstScores": scores(classes, self.per_class, "iiou"),
            "categoryScores": scores(_categories(self.classes), self.per_category, "iou"),
            "categoryInstScores": scores(_categories(self.classes), self.per_category, "iiou"),
            "averageScoreClasses": _json(self.miou),
            "averageScoreInstClasses": _json(self.iiou),
            "averageScoreCategories": _json(self.category_miou),
            "averageScoreInstCategories": _json(self.category_iiou),
        }


class CountedImage(NamedTuple):
    """The objects and pixels of one image, in plain tuples, by which images can be sorted.

    Attributes:
        image: its name.
        objects: as `count_objects` gives them.
        areas: for each evaluated class with pixels, its number, true positives, false positives
            and false negatives.
    """

    image: str
    objects: tuple[tuple[int, int, int, int], ...]
    areas: tuple[tuple[int, int, int, int], ...]


def class_areas(
    classes: Sequence[SemanticClass], confusion: Int[np.ndarray, "K K"]
) -> tuple[tuple[int, int, int, int], ...]:
    """Returns the pixels of one image's classes, as `CountedImage` has them."""
    evaluated = np.array([row.evaluated for row in classes])
    right = np.diag(confusion)
    false = confusion[evaluated].sum(axis=0) - right
    missed = confusion.sum(axis=1) - right
    present = np.flatnonzero(evaluated & (right + false + missed > 0))
    rows = np.column_stack([np.arange(len(classes)), right, false, missed])[present]
    return tuple(tuple(row) for row in rows.tolist())


def scores_of(
    classes: tuple[SemanticClass, ...],
    confusion: Int[np.ndarray, "K K"],
    images: Iterable[CountedImage] | None,
) -> SemanticIoUResult:
    """Returns all scores; `images` is None if their objects aren't known."""
    by_class, by_category = _weighted_areas(classes, images or ())
    evaluated = np.array([row.evaluated for row in classes])
    per_class = {}
    for k in np.flatnonzero(evaluated).tolist():
        tp = confusion[k, k]
        fp, fn = confusion[evaluated, k].sum() - tp, confusion[k].sum() - tp
        iiou = math.nan
        if images is not None and classes[k].mean_area:
            hit, missed = by_class[k]
            iiou = _ratio(hit, fp, missed)
        per_class[classes[k].name] = Score(iou=_ratio(tp, fp, fn), iiou=iiou)

    per_category = {}
    for category in _categories(classes):
        members = np.array([row.category == category for row in classes])
        inside, outside = members & evaluated, ~members & evaluated
        if not inside.any():
            continue
        tp = confusion[np.ix_(inside, inside)].sum()
        fp, fn = confusion[np.ix_(outside, inside)].sum(), confusion[inside].sum() - tp
        iiou = math.nan
        if images is not None and all(classes[k].mean_area for k in np.flatnonzero(members)):
            # Predicted as a class that isn't evaluated, such as trailer: wrong here, not above.
            hit, missed = by_category[category]
            iiou = _ratio(hit, confusion[np.ix_(outside, members)].sum(), missed)
        per_category[category] = Score(iou=_ratio(tp, fp, fn), iiou=iiou)

    return SemanticIoUResult(
        miou=_mean([score.iou for score in per_class.values()]),
        iiou=_mean([score.iiou for score in per_class.values()]),
        category_miou=_mean([score.iou for score in per_category.values()]),
        category_iiou=_mean([score.iiou for score in per_category.values()]),
        per_class=per_class,
        per_category=per_category,
        classes=classes,
        confusion=confusion,
    )


def _weighted_areas(
    classes: Sequence[SemanticClass], images: Iterable[CountedImage]
) -> tuple[dict[int, list[float]], dict[str, list[float]]]:
    """Sums hit and missed pixels of objects, as if all objects of a class had one size.

    They are added up in the order of image names, then of all else.
    """
    by_class = {k: [0.0, 0.0] for k in range(len(classes))}
    by_category = {category: [0.0, 0.0] for category in _categories(classes)}
    for counts in sorted(images):
        for k, area, hits, hits_in_category in counts.objects:
            weight = classes[k].mean_area / area
            by_class[k][0] += hits * weight
            by_class[k][1] += (area - hits) * weight
            by_category[classes[k].category][0] += hits_in_category * weight
            by_category[classes[k].category][1] += (area - hits_in_category) * weight
    return by_class, by_category


def _categories(classes: Iterable[SemanticClass]) -> list[str]:
    return list(dict.fromkeys(row.category for row in classes if row.category))


def _ratio(tp: float | np.int64, fp: np.int64, fn: float | np.int64) -> float:
    union = tp + fp + fn
    return float(tp / union) if union else math.nan


def _mean(scores: Sequence[float]) -> float:
    """Returns the mean of what isn't NaN, added one by one as the official script does."""
    valid = [score for score in scores if not math.isnan(score)]
    return float(np.cumsum(valid)[-1] / len(valid)) if valid else math.nan


def _json(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
