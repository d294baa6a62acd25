"""The comparison of two panoptic maps of one image: both are checked, and segments matched.

Axes: G ground-truth segments, P predicted segments; the first row and column of a table are void.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int, Integer, Shaped

from ..boundary import enclosed, reach_of
from ..pixel_runs import counts, runs_of

TP, FP, FN = range(3)

SegmentsInfo = Sequence[Mapping[str, Any]]


class SegmentOutcomes(NamedTuple):
    """The counts of one image, in plain tuples, by which images can be sorted.

    Attributes:
        image: its name.
        outcomes: for each match and each segment without one: category id, kind (true positive,
            false positive, false negative) and, for a match, the pixels of intersection and union.
        confused: for each false negative that would match a false positive of another class, the
            category ids of both.
    """

    image: str
    outcomes: tuple[tuple[int, int, int, int], ...]
    confused: tuple[tuple[int, int], ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class ComparedSegments:
    """The segments of one image's ground truth and prediction, and what they share.

    Attributes:
        image: its name.
        gt_map: ground-truth ids, 0 for void.
        gt_ids: of the true segments.
        gt_categories: their category ids.
        gt_is_crowd: whether they are crowd regions.
        map: predicted ids.
        ids: of the predicted segments.
        categories: their category ids.
        table: what `intersections` returns.
    """

    image: str
    gt_map: Integer[np.ndarray, "height width"]
    gt_ids: Sequence[int]
    gt_categories: Int[np.ndarray, "G"]
    gt_is_crowd: Bool[np.ndarray, "G"]
    map: Integer[np.ndarray, "height width"]
    ids: Sequence[int]
    categories: Int[np.ndarray, "P"]
    table: Int[np.ndarray, "G+1 P+1"]

    def outcomes(self) -> SegmentOutcomes:
        """Returns the counts by the overlaps of masks."""
        return self._outcomes(None)

    def boundary_outcomes(self, dilation_ratio: float) -> SegmentOutcomes:
        """Returns the counts by the smaller ones of the overlaps of masks and of boundaries.

        Args:
            dilation_ratio: how wide boundaries are, as a part of the image's diagonal.
        """
        inner = max([0, *self.gt_ids, *self.ids]) + 1
        gt_map = boundary_map(self.gt_map, inner, dilation_ratio)
        map = boundary_map(self.map, inner, dilation_ratio)
        return self._outcomes(intersections(gt_map, [*self.gt_ids, inner], map, [*self.ids, inner]))

    def _outcomes(self, rims: Int[np.ndarray, "rows columns"] | None) -> SegmentOutcomes:
        """Returns the counts of the matches that `match_segments` finds."""
        sides = self.gt_categories, self.gt_is_crowd, self.categories
        matches, false_positives, false_negatives = match_segments(self.table, *sides, rims)
        in_order = sorted(matches.tolist(), key=lambda match: self.gt_ids[match[0]])
        outcomes = [(int(self.gt_categories[g]), TP, i, u) for g, _, i, u in in_order]
        for kind, categories in (
            (FP, self.categories[false_positives]),
            (FN, self.gt_categories[false_negatives]),
        ):
            outcomes += sorted((int(category), kind, 0, 0) for category in categories)
        pairs = confused_segments(self.table, *sides)
        pairs = pairs[np.isin(pairs[:, 1], false_positives)]  # the others are excused by void
        confused = zip(
            self.gt_categories[pairs[:, 0]].tolist(),
            self.categories[pairs[:, 1]].tolist(),
            strict=True,
        )
        return SegmentOutcomes(self.image, tuple(outcomes), tuple(sorted(confused)))


def compare_segments(
    gt_map: Shaped[np.ndarray, "..."],
    gt_segments: SegmentsInfo,
    map: Shaped[np.ndarray, "..."],
    segments: SegmentsInfo,
    known: set[int],
    image: str,
) -> ComparedSegments:
    """Compares a prediction with its ground truth; the arguments are those of the metric's `add`.

    Args:
        gt_map: ground-truth ids, 0 for void.
        gt_segments: what these ids are.
        map: predicted ids.
        segments: what these are.
        known: the ids of all categories.
        image: the image's name; may be empty.

    Raises:
        ValueError: one side isn't sound, or the sizes differ; the message names the image.
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
    gt_ids = _checked_ids(gt_segments, known, truth)
    ids = _checked_ids(segments, known, prediction)
    table = intersections(gt_map, gt_ids, map, ids)
    _check_drawn(gt_map, gt_ids, table.sum(axis=1)[1:], truth)
    _check_drawn(map, ids, table.sum(axis=0)[1:], prediction)
    _check_areas(gt_segments, table.sum(axis=1)[1:], truth)

    return ComparedSegments(
        image=image,
        gt_map=gt_map,
        gt_ids=gt_ids,
        gt_categories=np.array([segment["category_id"] for segment in gt_segments], int),
        gt_is_crowd=np.array([segment.get("iscrowd", 0) == 1 for segment in gt_segments], bool),
        map=map,
        ids=ids,
        categories=np.array([segment["category_id"] for segment in segments], int),
        table=table,
    )


def intersections(
    gt_map: Integer[np.ndarray, "height width"],
    gt_ids: Sequence[int],
    segment_map: Integer[np.ndarray, "height width"],
    ids: Sequence[int],
) -> Int[np.ndarray, "rows columns"]:
    """Counts the pixels that every pair of segments shares; unlisted ids count as void."""

    def places(
        values: Integer[np.ndarray, "runs"], listed: Sequence[int]
    ) -> Int[np.ndarray, "runs"]:
        table = np.zeros(max([int(values.max(initial=0)), *listed]) + 1, np.intp)
        table[list(listed)] = np.arange(1, len(listed) + 1)
        return table[values]

    shape = len(gt_ids) + 1, len(ids) + 1
    lengths, (theirs, ours) = runs_of(gt_map, segment_map)
    return counts(places(theirs, gt_ids) * shape[1] + places(ours, ids), lengths, shape)


def boundary_map(
    segment_map: Integer[np.ndarray, "height width"], inner: int, dilation_ratio: float
) -> Int[np.ndarray, "height width"]:
    """Returns a map on which what isn't near a segment's edge has the id `inner`."""
    is_inner = enclosed(segment_map, reach_of(segment_map.shape, dilation_ratio))
    thinned = segment_map.astype(np.int32)  # ids have 24 bits, `inner` one more
    thinned[is_inner & (segment_map != 0)] = inner
    return thinned


def match_segments(
    table: Int[np.ndarray, "rows columns"],
    gt_categories: Int[np.ndarray, "G"],
    gt_is_crowd: Bool[np.ndarray, "G"],
    categories: Int[np.ndarray, "P"],
    rims: Int[np.ndarray, "rows+1 columns+1"] | None = None,
) -> tuple[Int[np.ndarray, "matches 4"], Int[np.ndarray, "fp"], Int[np.ndarray, "fn"]]:
    """Finds the segments that match, and the predicted and true ones that don't.

    Segments of one class match if their intersection is more than half of their union without
    void; at most one can. A prediction without a match is excused if more than half of it lies on
    void or on its class's crowd region: the one listed last, as the official scripts take it.

    Args:
        table: what `intersections` returns.
        gt_categories: of the true segments.
        gt_is_crowd: whether they are crowd regions.
        categories: of the predicted segments.
        rims: the same table of the segments' boundaries, and in its last row and column of what
            they enclose; the overlap of two segments is then the smaller one of both tables.

    Returns:
        Rows of ground-truth index, predicted index, intersection and union; the indices of false
        positives; those of false negatives.
    """
    shared, void = table[1:, 1:], table[0, 1:]
    areas, unions = table[:, 1:].sum(axis=0), unions_of(table)
    if rims is not None:
        rim_shared, rim_unions = rims[1:-1, 1:-1], unions_of(rims)[:-1, :-1]
        smaller = rim_shared * unions < shared * rim_unions
        overlap, unions = (
            np.where(smaller, rim_shared, shared),
            np.where(smaller, rim_unions, unions),
        )
    else:
        overlap = shared
    same_class = gt_categories[:, None] == categories
    matched = same_class & ~gt_is_crowd[:, None] & (2 * overlap > unions)
    excused = void.copy()
    for category in np.unique(gt_categories[gt_is_crowd]):
        last = np.flatnonzero(gt_is_crowd & (gt_categories == category))[-1]
        excused += np.where(categories == category, shared[last], 0)
    matches = np.column_stack([np.argwhere(matched), overlap[matched], unions[matched]])
    false_positives = np.flatnonzero(~matched.any(axis=0) & (2 * excused <= areas))
    false_negatives = np.flatnonzero(~matched.any(axis=1) & ~gt_is_crowd)
    return matches, false_positives, false_negatives


def unions_of(table: Int[np.ndarray, "rows columns"]) -> Int[np.ndarray, "G P"]:
    """Returns the pixels of the union of every pair of segments, without void."""
    areas, void = table[:, 1:].sum(axis=0), table[0, 1:]
    return table[1:].sum(axis=1)[:, None] + areas - table[1:, 1:] - void


def confused_segments(
    table: Int[np.ndarray, "rows columns"],
    gt_categories: Int[np.ndarray, "G"],
    gt_is_crowd: Bool[np.ndarray, "G"],
    categories: Int[np.ndarray, "P"],
) -> Int[np.ndarray, "pairs 2"]:
    """Segments of different classes that would match: ground-truth and predicted indices."""
    other_class = gt_categories[:, None] != categories
    close = 2 * table[1:, 1:] > unions_of(table)
    return np.argwhere(other_class & ~gt_is_crowd[:, None] & close)


def _check_map(segment_map: Shaped[np.ndarray, "..."], side: str):
    if segment_map.ndim != 2 or segment_map.dtype.kind not in "iu":
        raise ValueError(
            f"{side}'s map has the shape {segment_map.shape} and the type {segment_map.dtype}; it "
            "must be whole numbers [height, width] (from an RGB file: R + 256 G + 65536 B)"
        )
    low, high = int(segment_map.min(initial=0)), int(segment_map.max(initial=0))
    if low < 0 or high >= 2**24:
        raise ValueError(f"{side}'s map has ids from {low} to {high}; they must fit into 24 bits")


def _checked_ids(segments: SegmentsInfo, known: set[int], side: str) -> list[int]:
    """Returns the ids in a list of segments, once all it says is known to be good."""
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


def _check_areas(segments: SegmentsInfo, areas: Int[np.ndarray, "segments"], side: str):
    """Refuses areas, on which the official scripts would rely, that aren't those of the map."""
    for segment, area in zip(segments, areas.tolist(), strict=True):
        if segment.get("area", area) != area:
            raise ValueError(
                f"{side} gives segment {segment['id']} an area of {segment['area']}, but draws "
                f"{area} pixels; leave the areas out if the map was resized"
            )
