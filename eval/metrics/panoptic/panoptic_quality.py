"""Panoptic quality (Kirillov et al., "Panoptic Segmentation"), equal to the official scripts.

COCO's script (panopticapi) and Cityscapes' have the same rules. What every image adds is kept as
integers; `result` puts the images into one order and only then divides, so that neither the order
of the images nor how they were spread over processes can change a bit.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Shaped

from m2f_jax.labels import Label

from ..array_files import save_arrays, saved_arrays
from .segment_counts import (
    TP,
    ComparedSegments,
    SegmentOutcomes,
    SegmentsInfo,
    compare_segments,
)


@dataclass(frozen=True, kw_only=True)
class ClassQuality:
    """One class: its qualities as fractions and its counts of segments.

    A class without any segment has zeros, as in the official tables; no mean contains it.
    """

    id: int
    name: str
    is_thing: bool
    pq: float
    sq: float
    rq: float
    tp: int
    fp: int
    fn: int


@dataclass(frozen=True, kw_only=True)
class GroupQuality:
    """Means over the `n` classes of a group that have segments; NaN where there are none."""

    pq: float
    sq: float
    rq: float
    n: int


@dataclass(frozen=True, kw_only=True)
class PanopticQualityResult:
    """Panoptic (pq), segmentation (sq) and recognition quality (rq), as fractions.

    Attributes:
        all: over all classes.
        things: over the countable classes.
        stuff: over the others.
        per_class: by name, in the order of the categories.
    """

    all: GroupQuality
    things: GroupQuality
    stuff: GroupQuality
    per_class: dict[str, ClassQuality]

    def to_json(self) -> dict[str, Any]:
        """Returns the official result file, with names and counts besides; None stands for NaN."""
        groups = {"All": self.all, "Things": self.things, "Stuff": self.stuff}
        return {
            name: {k: None if math.isnan(v) else v for k, v in asdict(group).items()}
            for name, group in groups.items()
        } | {"per_class": {str(quality.id): asdict(quality) for quality in self.per_class.values()}}


def qualities_of(
    categories: Sequence[Label], images: Iterable[SegmentOutcomes]
) -> PanopticQualityResult:
    """Computes the qualities of counted images, summing in the order of names, then of all else."""

    def place(counts: SegmentOutcomes) -> tuple[int, SegmentOutcomes]:
        return len(counts.image) if counts.image.isdecimal() else 0, counts  # 9 is before 10

    sums = {label.id: [0.0, 0, 0, 0] for label in categories}  # IoU, then tp, fp, fn
    for counts in sorted(images, key=place):
        for category, kind, intersection, union in counts.outcomes:
            sums[category][0] += intersection / union if kind == TP else 0.0
            sums[category][1 + kind] += 1

    qualities = []
    for label in categories:
        iou, tp, fp, fn = sums[label.id]
        weight = tp + 0.5 * fp + 0.5 * fn
        qualities.append(
            ClassQuality(
                **asdict(label),
                pq=iou / weight if weight else 0.0,
                sq=iou / tp if tp else 0.0,
                rq=tp / weight if weight else 0.0,
                tp=int(tp),
                fp=int(fp),
                fn=int(fn),
            )
        )
    return PanopticQualityResult(
        all=_mean(qualities),
        things=_mean([quality for quality in qualities if quality.is_thing]),
        stuff=_mean([quality for quality in qualities if not quality.is_thing]),
        per_class={quality.name: quality for quality in qualities},
    )


class PanopticQuality:
    """Panoptic quality over any number of images: `add` each one, then ask for the `result`.

    The numbers are those of panopticapi's `pq_compute` and of cityscapesScripts'
    `evalPanopticSemanticLabeling`, as fractions: to the last bit if these run in one process over
    the images in the order of their names; over several, they round their sums differently.
    """

    FORMAT: ClassVar[str] = "PanopticQuality 2"  # what a file holds, and its layout's version

    def __init__(self, categories: Sequence[Label | Mapping[str, Any]]):
        """An empty metric.

        Args:
            categories: the data set's classes, as `Label` objects (`m2f_jax.labels.CITYSCAPES`) or
                as in the file of a COCO panoptic data set: dicts with "id", "name", "isthing".

        Raises:
            ValueError: a category has no "isthing", or two share an id or a name.
        """
        self.categories = tuple(map(_label, categories))
        for field in ("id", "name"):
            values = [getattr(label, field) for label in self.categories]
            if doubled := sorted({value for value in values if values.count(value) > 1}):
                raise ValueError(f"several categories share the {field} {doubled}")
        self._images: list[SegmentOutcomes] = []
        self._names: set[str] = set()

    def __len__(self) -> int:
        return len(self._images)

    @property
    def outcomes(self) -> Sequence[SegmentOutcomes]:
        """The counts of each image, as they came."""
        return self._images

    def add(
        self,
        gt_map: Shaped[np.ndarray, "..."],
        gt_segments: SegmentsInfo,
        map: Shaped[np.ndarray, "..."],
        segments: SegmentsInfo,
        image: str = "",
    ):
        """Compares one image's prediction with its ground truth.

        Args:
            gt_map: the id of the ground-truth segment at every pixel, 0 where there is none
                (void); whole numbers [height, width].
            gt_segments: what the ids are, as in a COCO panoptic file: dicts with "id",
                "category_id" and, where it is a crowd or group region, "iscrowd" 1.
            map: the predicted segments, in the same form and size.
            segments: what the predicted ids are.
            image: the image's name, for messages and so that no image is added twice; may be
                left out.

        Raises:
            ValueError: the image was added before, the maps aren't whole numbers of one size, a
                segment is in a map and not in its list or the reverse, or its category is unknown.
        """
        known = {label.id for label in self.categories}
        self._take(compare_segments(gt_map, gt_segments, map, segments, known, image))

    def merge(self, other: "PanopticQuality"):
        """Takes over the images of another metric, such as another process's.

        Raises:
            ValueError: the categories or the kinds of metric differ, or an image is in both.
        """
        if type(self) is not type(other):
            raise ValueError(
                f"a {type(self).__name__} and a {type(other).__name__} can't be merged; count all "
                "images by the overlaps of masks, of boundaries, or of both"
            )
        if self.categories != other.categories:
            raise ValueError("the metrics have different categories and can't be merged")
        self._extend(other._images)

    def result(self) -> PanopticQualityResult:
        """Computes the qualities over all images so far."""
        return qualities_of(self.categories, self._images)

    def save(self, path: str | os.PathLike):
        """Writes everything into one .npz file, which is complete or not there at all."""
        save_arrays(path, self.FORMAT, **self._arrays())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PanopticQuality":
        """Reads what `save` wrote; a ValueError if the file is broken or of another kind."""
        with saved_arrays(path, cls.FORMAT) as arrays:
            saved = {name: array.tolist() for name, array in arrays.items()}
            columns = zip(saved["ids"], saved["names"], saved["is_thing"], strict=True)
            metric = cls([Label(id=i, name=n, is_thing=t) for i, n, t in columns])
            metric._fill(saved)
        return metric

    def _take(self, compared: ComparedSegments):
        """Counts an image."""
        self._extend([compared.outcomes()])

    def _arrays(self) -> dict[str, Any]:
        """Returns what a file holds."""
        images = sorted(self._images)
        outcomes = [(k, *row) for k, counts in enumerate(images) for row in counts.outcomes]
        confused = [(k, *row) for k, counts in enumerate(images) for row in counts.confused]
        return {
            "ids": np.array([label.id for label in self.categories], np.int64),
            "names": np.array([label.name for label in self.categories], str),
            "is_thing": np.array([label.is_thing for label in self.categories], bool),
            "images": np.array([counts.image for counts in images], str),
            "outcomes": np.array(outcomes, np.int64).reshape(-1, 5),
            "confused": np.array(confused, np.int64).reshape(-1, 3),
        }

    def _fill(self, saved: Mapping[str, Any]):
        """Takes over the images of a file, whose arrays are lists."""
        rows = {name: [[] for _ in saved["images"]] for name in ("outcomes", "confused")}
        for name, of_images in rows.items():
            for k, *row in saved[name]:
                of_images[k].append(tuple(row))
        columns = [map(tuple, of_images) for of_images in rows.values()]
        self._extend(list(map(SegmentOutcomes, saved["images"], *columns)))

    def _extend(self, images: Sequence[SegmentOutcomes]):
        """Takes over images, unless one is there already."""
        names = {counts.image for counts in images} - {""}
        if doubled := sorted(names & self._names):
            raise ValueError(f"the images {doubled[:5]} were added already; add every image once")
        self._images += images
        self._names |= names


def coco_categories(labels: Iterable[Label]) -> list[dict[str, Any]]:
    """Returns labels (`m2f_jax.labels.CITYSCAPES`) as the "categories" of a panoptic file."""
    return [
        {"id": label.id, "name": label.name, "isthing": int(label.is_thing)} for label in labels
    ]


def _label(category: Label | Mapping[str, Any]) -> Label:
    if isinstance(category, Label):
        return category
    if missing := [key for key in ("id", "name", "isthing") if key not in category]:
        raise ValueError(
            f"the category {dict(category)} has no {missing}; take those of a panoptic file "
            '("isthing" is 1 for countable classes)'
        )
    return Label(id=category["id"], name=category["name"], is_thing=category["isthing"] == 1)


def _mean(qualities: Sequence[ClassQuality]) -> GroupQuality:
    """Returns means over the classes with segments, added one by one as official scripts do."""
    rows = [(q.pq, q.sq, q.rq) for q in qualities if q.tp + q.fp + q.fn]
    if not rows:
        return GroupQuality(pq=math.nan, sq=math.nan, rq=math.nan, n=0)
    pq, sq, rq = (np.cumsum(rows, axis=0)[-1] / len(rows)).tolist()  # a plain sum rounds otherwise
    return GroupQuality(pq=pq, sq=sq, rq=rq, n=len(rows))
