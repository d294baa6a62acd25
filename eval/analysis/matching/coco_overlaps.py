"""Overlaps of COCO's instances and YouTubeVIS's tracks, of whole masks or of boundaries."""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from m2f_jax.masks.tracks import track_overlaps

from ...metrics.boundary import boundary_rle
from ...metrics.coco.lvis_ap import LvisMaskAP
from ...metrics.coco.mask_ap import CocoMaskAP
from ...metrics.coco.tool import Detections, parted
from ...metrics.coco.track_ap import TrackAP
from .overlaps import Overlaps, rank

LONGEST = 255  # masks in a list, of which pycocotools' area takes no more
NONE = Detections(np.zeros(0, np.int64), np.zeros(0), [])


def coco_overlaps(metric: CocoMaskAP, boundary: bool = False) -> Overlaps:
    """Compares the predictions of each image and class that count with all objects of the image.

    Args:
        metric: the predictions and the ground truth.
        boundary: masks' boundaries are compared, too, and the smaller overlap counts.

    Raises:
        ValueError: tracks are to be compared at boundaries.
    """
    if boundary and isinstance(metric, TrackAP):
        raise ValueError("tracks are compared as whole masks; they have no boundary")
    annotations = metric.annotations
    images = [image for image in annotations.sizes if image in metric.evaluated]
    place = {image: i for i, image in enumerate(images)}
    class_of = {category: k for k, category in enumerate(annotations.names)}
    objects: list[list[dict[str, Any]]] = [[] for _ in images]
    for entry in annotations.objects:
        if entry["image_id"] in place:
            objects[place[entry["image_id"]]].append(entry)
    columns: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    num_predictions = num_objects = 0
    for i, image in enumerate(images):
        found, truth = best_of_classes(metric.detections.get(image, NONE), metric.limit), objects[i]
        compare = functools.partial(
            compared,
            size=annotations.sizes[image],
            boundary=boundary,
            free=isinstance(metric, LvisMaskAP),
        )
        if isinstance(metric, TrackAP):
            compare = functools.partial(compared_tracks, size=annotations.sizes[image])
        iou, areas = compare(found, truth)
        prediction, object_ = np.nonzero(iou)
        for name, values in {
            "image": [i] * len(found.counts),
            "classes": [class_of[category] for category in found.category_ids.tolist()],
            "scores": found.scores,
            "areas": areas,
            "object_image": [i] * len(truth),
            "object_class": [class_of[one["category_id"]] for one in truth],
            "object_areas": [one["area"] for one in truth],
            "is_group": [one["iscrowd"] for one in truth],
            "pair_prediction": prediction + num_predictions,
            "pair_object": object_ + num_objects,
            "pair_iou": iou[prediction, object_],
        }.items():
            columns[name].append(np.asarray(values, COLUMNS[name]))
        num_predictions, num_objects = num_predictions + len(found.counts), num_objects + len(truth)
    return Overlaps(
        images=tuple(map(str, images)),
        class_names=tuple(annotations.names.values()),
        **{
            name: np.concatenate([*parts, np.zeros(0, COLUMNS[name])])
            for name, parts in columns.items()
        },
    )


COLUMNS = {
    "image": np.int64,
    "classes": np.int64,
    "scores": np.float64,
    "areas": np.float64,
    "object_image": np.int64,
    "object_class": np.int64,
    "object_areas": np.float64,
    "is_group": np.bool_,
    "pair_prediction": np.int64,
    "pair_object": np.int64,
    "pair_iou": np.float64,
}


def best_of_classes(found: Detections, most: int) -> Detections:
    """Returns the best so many predictions of each class, in the order in which they came."""
    kept = np.flatnonzero(rank((found.category_ids,), found.scores) < most)
    counts = [found.counts[k] for k in kept]
    return Detections(found.category_ids[kept], found.scores[kept], counts)


def compared(
    found: Detections,
    truth: Sequence[dict[str, Any]],
    size: tuple[int, ...],
    boundary: bool,
    free: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the overlaps of an image's predictions with its objects, and their areas.

    Args:
        found: N predictions.
        truth: M entries of an annotation file.
        size: of the image.
        boundary: masks' boundaries are compared, too.
        free: groups are LVIS's, which have no boundary, since any prediction may lie on them.

    Returns:
        Intersection over union, float64 [N, M], and the predictions' areas in pixels, float64 [N].
    """
    masks: Any = [{"size": list(size), "counts": counts} for counts in found.counts]
    others: Any = [one["segmentation"] for one in truth]
    parts = range(0, len(masks), LONGEST)
    each = [np.ravel(coco_mask.area(masks[k : k + LONGEST])) for k in parts]
    areas = np.concatenate([np.zeros(0), *each])
    if not masks or not others:
        return np.zeros((len(masks), len(others))), areas
    crowds = [one["iscrowd"] for one in truth]
    iou = np.array(coco_mask.iou(masks, others, crowds))
    if boundary:
        rims: Any = [boundary_rle(one) for one in masks]
        true_rims: Any = [boundary_rle(one) for one in others]
        rim_iou = np.array(coco_mask.iou(rims, true_rims, crowds))
        bounded = ~np.array(crowds, bool) | (not free)
        iou = np.where(bounded, np.minimum(iou, rim_iou), iou)
    return iou.reshape(len(masks), len(others)), areas


def compared_tracks(
    found: Detections, truth: Sequence[dict[str, Any]], size: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Returns the same of tracks, where groups are no exception; areas, not needed, are 0."""
    tracks: list[Any] = [parted(counts, (size[1], size[2])) for counts in found.counts]
    iou = track_overlaps(tracks, [one["segmentation"] for one in truth])
    return iou, np.zeros(len(tracks))
