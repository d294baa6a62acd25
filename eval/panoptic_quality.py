"""Panoptic quality (Kirillov et al., "Panoptic Segmentation"), equal to the official scripts.

COCO's script (panopticapi) and Cityscapes' have the same rules. What every image adds is kept as
integers; `result` puts the images into one order and only then divides, so that neither the order
of the images nor how they were spread over processes can change a bit.

Axes: G ground-truth segments, P predicted segments; the first row and column of a table are void.
"""

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped

from m2f_jax.labels import Label

FORMAT = "PanopticQuality 1"  # what a file holds, and the version of its layout
TP, FP, FN = range(3)

Segments = Sequence[Mapping[str, Any]]


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
        """The official result file, with names and counts besides; None stands for NaN."""
        groups = {"All": self.all, "Things": self.things, "Stuff": self.stuff}
        return {
            name: {k: None if math.isnan(v) else v for k, v in asdict(group).items()}
            for name, group in groups.items()
        } | {"per_class": {str(quality.id): asdict(quality) for quality in self.per_class.values()}}


class ImageCounts(NamedTuple):
    """What one image adds; plain tuples, so that images can be sorted by all they hold.

    For each match and each segment without one: category id, kind (true positive, false positive,
    false negative) and, for a match, the pixels of intersection and union.
    """

    image: str
    outcomes: tuple[tuple[int, int, int, int], ...]


def intersections(
    gt_map: Integer[np.ndarray, "height width"],
    gt_ids: Sequence[int],
    segment_map: Integer[np.ndarray, "height width"],
    ids: Sequence[int],
) -> Int[np.ndarray, "rows columns"]:
    """How many pixels every pair of segments shares; ids that are in no list count as void."""

    def cells(
        drawn: Integer[np.ndarray, "height width"], listed: Sequence[int], step: int
    ) -> Int[np.ndarray, "height width"]:
        table = np.zeros(max([int(drawn.max(initial=0)), *listed]) + 1, np.intp)
        table[list(listed)] = np.arange(1, len(listed) + 1) * step
        return table[drawn]

    shape = len(gt_ids) + 1, len(ids) + 1
    pairs = cells(gt_map, gt_ids, shape[1])
    pairs += cells(segment_map, ids, 1)
    return np.bincount(pairs.ravel(), minlength=shape[0] * shape[1]).reshape(shape)


def match_segments(
    table: Int[np.ndarray, "rows columns"],
    gt_categories: Int[np.ndarray, "G"],
    gt_is_crowd: Bool[np.ndarray, "G"],
    categories: Int[np.ndarray, "P"],
) -> tuple[Int[np.ndarray, "matches 4"], Int[np.ndarray, "fp"], Int[np.ndarray, "fn"]]:
    """Which segments match, and the indices of the predicted and ground-truth ones that don't.

    Segments of one class match if their intersection is more than half of their union without
    void; at most one can. A prediction without a match is excused if more than half of it lies on
    void or on its class's crowd region: the one listed last, as the official scripts take it.

    Returns:
        Rows of ground-truth index, predicted index, intersection and union; the indices of false
        positives; those of false negatives.
    """
    shared, void = table[1:, 1:], table[0, 1:]
    areas = table[:, 1:].sum(axis=0)
    unions = table[1:].sum(axis=1)[:, None] + areas - shared - void
    same_class = gt_categories[:, None] == categories
    matched = same_class & ~gt_is_crowd[:, None] & (2 * shared > unions)
    excused = void.copy()
    for category in np.unique(gt_categories[gt_is_crowd]):
        last = np.flatnonzero(gt_is_crowd & (gt_categories == category))[-1]
        excused += np.where(categories == category, shared[last], 0)
    matches = np.column_stack([np.argwhere(matched), shared[matched], unions[matched]])
    false_positives = np.flatnonzero(~matched.any(axis=0) & (2 * excused <= areas))
    false_negatives = np.flatnonzero(~matched.any(axis=1) & ~gt_is_crowd)
    return matches, false_positives, false_negatives


def evaluate(categories: Sequence[Label], images: Iterable[ImageCounts]) -> PanopticQualityResult:
    """The qualities of counted images; sums run in the order of names, then of all else."""

    def place(counts: ImageCounts) -> tuple[int, ImageCounts]:
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

    The numbers are those of the official scripts, to the last bit if these run in one process over
    the images in the order of their names; over several, they round their sums differently.
    """

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
        self._images: list[ImageCounts] = []
        self._names: set[str] = set()

    def __len__(self) -> int:
        return len(self._images)

    def add(
        self,
        gt_map: Shaped[np.ndarray, "..."],
        gt_segments: Segments,
        map: Shaped[np.ndarray, "..."],
        segments: Segments,
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
        where = "" if image == "" else f"image {image}: "
        truth, prediction = f"{where}the ground truth", f"{where}the prediction"
        _check_map(gt_map, truth)
        _check_map(map, prediction)
        if gt_map.shape != map.shape:
            raise ValueError(
                f"{truth} has {gt_map.shape[0]} x {gt_map.shape[1]} pixels but the prediction "
                f"{map.shape[0]} x {map.shape[1]}; bring it to the size of the ground truth"
            )
        known = {label.id for label in self.categories}
        gt_ids = _checked_ids(gt_segments, known, truth)
        ids = _checked_ids(segments, known, prediction)
        table = intersections(gt_map, gt_ids, map, ids)
        _check_drawn(gt_map, gt_ids, table.sum(axis=1)[1:], truth)
        _check_drawn(map, ids, table.sum(axis=0)[1:], prediction)
        _check_areas(gt_segments, table.sum(axis=1)[1:], truth)

        gt_categories = np.array([segment["category_id"] for segment in gt_segments], int)
        categories = np.array([segment["category_id"] for segment in segments], int)
        is_crowd = np.array([segment.get("iscrowd", 0) == 1 for segment in gt_segments], bool)
        matches, false_positives, false_negatives = match_segments(
            table, gt_categories, is_crowd, categories
        )
        in_order = sorted(matches.tolist(), key=lambda match: gt_ids[match[0]])
        outcomes = [(int(gt_categories[g]), TP, i, u) for g, _, i, u in in_order]
        outcomes += sorted((int(category), FP, 0, 0) for category in categories[false_positives])
        outcomes += sorted((int(category), FN, 0, 0) for category in gt_categories[false_negatives])
        self._extend([ImageCounts(image, tuple(outcomes))])

    def merge(self, other: "PanopticQuality"):
        """Takes over the images of another metric, such as another process's.

        Raises:
            ValueError: the categories differ, or an image is in both.
        """
        if self.categories != other.categories:
            raise ValueError("the metrics have different categories and can't be merged")
        self._extend(other._images)

    def result(self) -> PanopticQualityResult:
        """The qualities over all images so far."""
        return evaluate(self.categories, self._images)

    def save(self, path: str | os.PathLike):
        """Writes everything into one .npz file, which is complete or not there at all."""
        outcomes = [(k, *row) for k, (_, rows) in enumerate(sorted(self._images)) for row in rows]
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as file:
                np.savez_compressed(
                    file,
                    format=FORMAT,
                    ids=np.array([label.id for label in self.categories], np.int64),
                    names=np.array([label.name for label in self.categories], str),
                    is_thing=np.array([label.is_thing for label in self.categories], bool),
                    images=np.array([counts.image for counts in sorted(self._images)], str),
                    outcomes=np.array(outcomes, np.int64).reshape(-1, 5),
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "PanopticQuality":
        """Reads what `save` wrote; a ValueError if the file is broken or of another kind."""
        with Path(path).open("rb") as file:
            try:
                saved = {name: array.tolist() for name, array in np.load(file).items()}
                if saved["format"] != FORMAT:
                    raise ValueError(f"its format is {saved['format']}")
                columns = zip(saved["ids"], saved["names"], saved["is_thing"], strict=True)
                metric = cls([Label(id=i, name=n, is_thing=t) for i, n, t in columns])
                outcomes = [[] for _ in saved["images"]]
                for k, *row in saved["outcomes"]:
                    outcomes[k].append(tuple(row))
                metric._extend(list(map(ImageCounts, saved["images"], map(tuple, outcomes))))
            except Exception as error:
                raise ValueError(
                    f"{path} isn't a whole file of PanopticQuality: {error}"
                ) from error
        return metric

    def _extend(self, images: Sequence[ImageCounts]):
        """Takes over images, unless one is there already."""
        names = {counts.image for counts in images} - {""}
        if doubled := sorted(names & self._names):
            raise ValueError(f"the images {doubled[:5]} were added already; add every image once")
        self._images += images
        self._names |= names


def coco_categories(labels: Iterable[Label]) -> list[dict[str, Any]]:
    """Labels, such as `m2f_jax.labels.CITYSCAPES`, as the "categories" of a panoptic file."""
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
    """Means over the classes that have segments, added one by one as the official scripts do."""
    rows = [(q.pq, q.sq, q.rq) for q in qualities if q.tp + q.fp + q.fn]
    if not rows:
        return GroupQuality(pq=math.nan, sq=math.nan, rq=math.nan, n=0)
    pq, sq, rq = (np.cumsum(rows, axis=0)[-1] / len(rows)).tolist()  # a plain sum rounds otherwise
    return GroupQuality(pq=pq, sq=sq, rq=rq, n=len(rows))


def _check_map(segment_map: Shaped[np.ndarray, "..."], side: str):
    if segment_map.ndim != 2 or segment_map.dtype.kind not in "iu":
        raise ValueError(
            f"{side}'s map has the shape {segment_map.shape} and the type {segment_map.dtype}; it "
            "must be whole numbers [height, width] (from an RGB file: R + 256 G + 65536 B)"
        )
    low, high = int(segment_map.min(initial=0)), int(segment_map.max(initial=0))
    if low < 0 or high >= 2**24:
        raise ValueError(f"{side}'s map has ids from {low} to {high}; they must fit into 24 bits")


def _checked_ids(segments: Segments, known: set[int], side: str) -> list[int]:
    """The ids in a list of segments, once all it says is known to be good."""
    for segment in segments:
        if missing := {"id", "category_id"} - set(segment):
            raise ValueError(f"{side} lists a segment without {sorted(missing)}: {dict(segment)}")
    ids = [segment["id"] for segment in segments]
    if bad := sorted({id for id in ids if not 0 < id < 2**24 or ids.count(id) > 1}):
        raise ValueError(
            f"{side} lists the ids {bad}; every segment needs one of its own, from 1 to 2**24 - 1 "
            "(0 is void)"
        )
    categories = {segment["id"]: segment["category_id"] for segment in segments}
    if unknown := {id: category for id, category in categories.items() if category not in known}:
        raise ValueError(
            f"{side} has unknown categories (segment: category) {unknown}; the metric's are "
            f"{sorted(known)}, the data set's own ids rather than class indices"
        )
    return ids


def _check_drawn(
    segment_map: Integer[np.ndarray, "height width"],
    ids: Sequence[int],
    areas: Int[np.ndarray, "segments"],
    side: str,
):
    """Refuses segments that are only in the list or only in the map."""
    if absent := [id for id, area in zip(ids, areas, strict=True) if not area]:
        raise ValueError(
            f"{side} lists the segments {absent}, which its map doesn't draw; leave them out"
        )
    if np.count_nonzero(segment_map) != areas.sum():
        unlisted = sorted(set(np.unique(segment_map).tolist()) - {0, *ids})
        raise ValueError(
            f"{side} draws the ids {unlisted[:10]}, which aren't in its list; list them, or make "
            "them 0 (void)"
        )


def _check_areas(segments: Segments, areas: Int[np.ndarray, "segments"], side: str):
    """Refuses areas, on which the official scripts would rely, that aren't those of the map."""
    for segment, area in zip(segments, areas.tolist(), strict=True):
        if segment.get("area", area) != area:
            raise ValueError(
                f"{side} gives segment {segment['id']} an area of {segment['area']}, but draws "
                f"{area} pixels; leave the areas out if the map was resized"
            )
