"""Panoptic segments of one image as errors are told from: by the matches of panoptic quality.

Axes: P predicted segments.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Integer

from m2f_jax.labels import Label

from ...metrics.panoptic.segment_counts import (
    SegmentsInfo,
    intersections,
    match_segments,
    unions_of,
)
from .judged import Judged, places


def panoptic_judged(
    categories: Sequence[Label],
    gt_map: Integer[np.ndarray, "height width"],
    gt_segments: SegmentsInfo,
    segment_map: Integer[np.ndarray, "height width"],
    segments: SegmentsInfo,
) -> Judged:
    """Matches the segments of an image; void is no part of a union, and crowds are no objects.

    Args:
        categories: the data set's, in the order of the class indices.
        gt_map: the id of the ground-truth segment at every pixel, 0 for void.
        gt_segments: what these ids are, as `PanopticQuality.add` takes them.
        segment_map: the predicted segments, likewise.
        segments: what these are.
    """
    index = {label.id: k for k, label in enumerate(categories)}
    gt_classes, classes = (
        np.array([index[one["category_id"]] for one in infos], np.int64)
        for infos in (gt_segments, segments)
    )
    is_crowd = np.array([one.get("iscrowd", 0) == 1 for one in gt_segments], bool)
    table = intersections(
        gt_map, [one["id"] for one in gt_segments], segment_map, [one["id"] for one in segments]
    )
    matches, false_positives, _ = match_segments(table, gt_classes, is_crowd, classes)
    objects = np.flatnonzero(~is_crowd)
    matched = np.full(len(classes), -1)
    matched[matches[:, 1]] = places(objects, len(is_crowd))[matches[:, 0]]
    ignored = matched < 0
    ignored[false_positives] = False
    iou = (table[1:, 1:] / unions_of(table))[objects].T
    prediction, object_ = np.nonzero(iou)
    return Judged(
        class_names=tuple(label.name for label in categories),
        classes=classes,
        scores=np.zeros(len(classes)),
        ignored=ignored,
        object_class=gt_classes[objects],
        matched=matched,
        pair_prediction=prediction,
        pair_object=object_,
        pair_iou=iou[prediction, object_],
    )
