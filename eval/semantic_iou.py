"""Mean intersection over union of classes, equal to Cityscapes' official pixel-level script.

What every image adds is kept as integers: one table of ground truth against prediction, and for
Cityscapes the pixels of every object, from which the instance-level score (iIoU) is computed. All
divisions happen in `result`, with the images in one order, so that neither the order in which they
came nor how they were spread over processes can change a bit.

Axes: K classes, with those that aren't evaluated; rows of a table are ground truth.
"""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int, Integer, Shaped

from m2f_jax.labels import CITYSCAPES, Label, numbered

from .cityscapes_panoptic import (
    CITYSCAPES_CLASSES,
    LARGEST_INSTANCE_ID,
    TRAIN_IDS,
    SemanticClass,
    count_objects,
    refuse_train_ids,
)

LARGEST_VALUE = 2**16 - 1  # of a pixel
FORMAT = "SemanticIoU 1"  # what a file holds, and the version of its layout


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
        """The keys of the official result file; None stands for NaN."""
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


class ImageObjects(NamedTuple):
    """The objects of one image; plain tuples, so that images can be sorted by all they hold."""

    image: str
    objects: tuple[tuple[int, int, int, int], ...]  # as `count_objects` gives them


def joint_counts(
    rows: Integer[np.ndarray, "height width"],
    columns: Int[np.ndarray, "height width"],
    shape: tuple[int, int],
) -> Int[np.ndarray, "{shape[0]} {shape[1]}"]:
    """How many pixels have each pair of values."""
    pairs = rows.astype(np.intp) * shape[1]
    pairs += columns
    return np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def evaluate(
    classes: tuple[SemanticClass, ...],
    confusion: Int[np.ndarray, "K K"],
    images: Iterable[ImageObjects] | None,
) -> SemanticIoUResult:
    """All scores; None for the images if their objects aren't known."""
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


class SemanticIoU:
    """IoU over any number of images: `add` each one, then ask for the `result`.

    `SemanticIoU()` takes label ids of Cityscapes and gives what the official script gives, to the
    last bit if that goes through the images in the order of their names. `SemanticIoU(ADE20K)` and
    `SemanticIoU(21, ignore=255)` take classes numbered from 0, by the same rules: a class that was
    only predicted has the IoU 0; one that is nowhere has NaN, and no mean contains it.
    """

    def __init__(self, classes: Sequence[Label] | int | None = None, *, ignore: int = 255):
        """An empty metric.

        Args:
            classes: the classes in the order of their numbers, from 0, or how many there are;
                None for the label ids of Cityscapes.
            ignore: with `classes`, the value of pixels that have none. In the ground truth they
                are left out; predicted, they are misses.

        Raises:
            ValueError: `ignore` is also the number of a class, or two classes share a name.
        """
        labels = numbered(classes) if isinstance(classes, int) else classes
        self._labels = None if labels is None else tuple(label.name for label in labels)
        self._ignore = ignore
        self.classes = CITYSCAPES_CLASSES
        values = list(range(len(self.classes)))
        if self._labels is not None:
            rows = tuple(SemanticClass(name=name) for name in self._labels)
            self.classes = (*rows, SemanticClass(name="ignored", evaluated=False))
            values = [*range(len(rows)), ignore]
            if len(set(self._labels)) < len(rows):
                raise ValueError(f"several classes share a name: {self._labels}")
            if not len(rows) <= ignore <= LARGEST_VALUE:
                raise ValueError(
                    f"ignore is {ignore}, which must be above the classes, 0 to {len(rows) - 1}, "
                    f"and at most {LARGEST_VALUE}"
                )
        # From pixel value to row of the table; the row after the last is for all other values.
        self._rows = np.full(LARGEST_VALUE + 1, len(values), np.intp)
        self._rows[values] = np.arange(len(values))
        self._confusion = np.zeros((len(values), len(values)), np.int64)
        self._images: list[ImageObjects] = []
        self._names: set[str] = set()
        self._with_objects: bool | None = None  # of every image; None before the first

    def __len__(self) -> int:
        return len(self._images)

    def add(
        self,
        label_ids: Shaped[np.ndarray, "..."],
        prediction: Shaped[np.ndarray, "..."],
        instance_ids: Shaped[np.ndarray, "..."] | None = None,
        image: str = "",
    ):
        """Compares one image's prediction with its ground truth; whole numbers [height, width].

        Args:
            label_ids: the ground truth; for Cityscapes the values of a `*_gtFine_labelIds.png`.
            prediction: the predicted classes, in the same numbers and size.
            instance_ids: for Cityscapes, the values of a `*_gtFine_instanceIds.png`, for all
                images or none; only with them are there instance-level scores.
            image: the image's name, for messages and so that no image is added twice; may be
                left out.

        Raises:
            ValueError: the image was added before, the maps aren't whole numbers of one size, or
                they hold values that are no class, such as train ids in place of label ids.
        """
        where = "" if image == "" else f"image {image}: "
        maps = {"ground truth": label_ids, "prediction": prediction}
        if instance_ids is not None:
            maps["instance ids"] = instance_ids
        _check_maps(maps, where)
        rows, columns = self._rows[label_ids], self._rows[prediction]
        side = len(self.classes) + 1
        table = joint_counts(rows, columns, (side, side))
        for name, others in (("ground truth", table[-1]), ("prediction", table[:, -1])):
            if others.any():
                self._refuse_values(maps[name], f"{where}the {name}")
        table = table[:-1, :-1]
        if self._labels is None:
            refuse_train_ids(table, f"{where}the prediction")
        elif instance_ids is not None:
            raise ValueError(f"{where}instance ids are for Cityscapes' label ids only")
        objects = () if instance_ids is None else count_objects(instance_ids, columns, where)
        self._extend(table, [ImageObjects(image, objects)], instance_ids is not None)

    def merge(self, other: "SemanticIoU"):
        """Takes over the images of another metric, such as another process's.

        Raises:
            ValueError: the classes differ, an image is in both, or one metric's images have
                instance ids and the other's haven't.
        """
        if (self._labels, self._ignore) != (other._labels, other._ignore):
            raise ValueError("the metrics have different classes and can't be merged")
        self._extend(other._confusion, other._images, other._with_objects)

    def result(self) -> SemanticIoUResult:
        """The scores over all images so far."""
        images = self._images if self._with_objects else None
        return evaluate(self.classes, self._confusion.copy(), images)

    def save(self, path: str | os.PathLike):
        """Writes everything into one .npz file, which is complete or not there at all."""
        objects = [(k, *row) for k, (_, rows) in enumerate(sorted(self._images)) for row in rows]
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as file:
                np.savez_compressed(
                    file,
                    format=FORMAT,
                    labels=np.array(self._labels or (), str),
                    ignore=-1 if self._labels is None else self._ignore,
                    confusion=self._confusion,
                    with_objects=-1 if self._with_objects is None else int(self._with_objects),
                    images=np.array([counts.image for counts in sorted(self._images)], str),
                    objects=np.array(objects, np.int64).reshape(-1, 5),
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "SemanticIoU":
        """Reads what `save` wrote; a ValueError if the file is broken or of another kind."""
        with Path(path).open("rb") as file:
            try:
                saved = dict(np.load(file))
                if saved["format"] != FORMAT:
                    raise ValueError(f"its format is {saved['format']}")
                metric = cls()
                if saved["ignore"] >= 0:
                    names = enumerate(saved["labels"].tolist())
                    labels = [Label(id=k, name=name, is_thing=False) for k, name in names]
                    metric = cls(labels, ignore=int(saved["ignore"]))
                objects = [[] for _ in saved["images"]]
                for k, *row in saved["objects"].tolist():
                    objects[k].append(tuple(row))
                images = map(ImageObjects, saved["images"].tolist(), map(tuple, objects))
                with_objects = {-1: None, 0: False, 1: True}[int(saved["with_objects"])]
                metric._extend(saved["confusion"], list(images), with_objects)
            except Exception as error:
                raise ValueError(f"{path} isn't a whole file of SemanticIoU: {error}") from error
        return metric

    def _extend(
        self,
        confusion: Int[np.ndarray, "K K"],
        images: Sequence[ImageObjects],
        with_objects: bool | None,
    ):
        """Takes over images, all or none of which have instance ids, unless one is there twice."""
        if {self._with_objects, with_objects} == {True, False}:
            raise ValueError("give instance ids for every image or for none; some here have none")
        names = {counts.image for counts in images} - {""}
        if doubled := sorted(names & self._names):
            raise ValueError(f"the images {doubled[:5]} were added already; add every image once")
        self._confusion += confusion
        self._images += images
        self._names |= names
        if with_objects is not None:
            self._with_objects = with_objects

    def _refuse_values(self, values: Integer[np.ndarray, "height width"], side: str):
        """Names the values that are no class, and what they probably are."""
        present = np.unique(values)
        bad = present[self._rows[present] == len(self.classes)].tolist()
        if self._labels is not None:
            raise ValueError(
                f"{side} has the values {bad[:10]}; classes go from 0 to {len(self._labels) - 1}, "
                f"and pixels without one have {self._ignore}"
            )
        if set(present.tolist()) <= {*range(len(CITYSCAPES)), 255}:
            raise ValueError(f"{side} has the value 255 and none above 18: {TRAIN_IDS}")
        raise ValueError(
            f"{side} has the values {bad[:10]}, but label ids end at {len(self.classes) - 1}; "
            "pixels without a class are 0"
        )


def _check_maps(maps: dict[str, Shaped[np.ndarray, "..."]], where: str):
    size = maps["ground truth"].shape
    for name, values in maps.items():
        if values.ndim != 2 or values.dtype.kind not in "iu":
            raise ValueError(
                f"{where}for the {name}, whole numbers [height, width] are needed, not "
                f"{values.dtype} of the shape {values.shape}"
            )
        if values.shape != size:
            raise ValueError(
                f"{where}the size of the {name} is {values.shape}, that of the ground truth {size};"
                " bring it to the size of the ground truth"
            )
        largest = LARGEST_INSTANCE_ID if name == "instance ids" else LARGEST_VALUE
        low, high = int(values.min(initial=0)), int(values.max(initial=0))
        if low < 0 or high > largest:
            raise ValueError(
                f"{where}the values of the {name} go from {low} to {high}, beyond 0 to {largest}"
            )


def _weighted_areas(
    classes: Sequence[SemanticClass], images: Iterable[ImageObjects]
) -> tuple[dict[int, list[float]], dict[str, list[float]]]:
    """Hit and missed pixels of objects, as if all objects of a class had one size.

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
    """The mean of what isn't NaN, added one by one as the official script does."""
    valid = [score for score in scores if not math.isnan(score)]
    return float(np.cumsum(valid)[-1] / len(valid)) if valid else math.nan


def _json(value: float) -> float | None:
    return None if math.isnan(value) else float(value)
