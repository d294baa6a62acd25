"""The objects of any data set in COCO's format, for metrics with COCO's rules."""

import collections
from typing import Any

from m2f_jax.datasets.coco import CocoDataset
from m2f_jax.datasets.dataset import Dataset, GroundTruth
from m2f_jax.datasets.examples import Segments
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.masks.boxes import mask_box
from m2f_jax.masks.rle import encode_rle

from ..metrics.coco.annotations import CocoAnnotations
from ..metrics.coco.lvis_ap import LvisAnnotations

_ANNOTATIONS: collections.deque[tuple[Any, CocoAnnotations]] = collections.deque(maxlen=4)


def coco_annotations(dataset: Dataset | YtvisDataset) -> CocoAnnotations:
    """Returns a data set's objects in COCO's format, read once for each of the last few.

    Raises:
        FileNotFoundError, ValueError: the ground truth of an image can't be read.
    """
    for known, annotations in _ANNOTATIONS:
        if known is dataset:
            return annotations
    annotations = read_annotations(dataset)
    keep_annotations(dataset, annotations)
    return annotations


def keep_annotations(dataset: Dataset | YtvisDataset, annotations: CocoAnnotations):
    """Keeps a data set's objects for `coco_annotations`."""
    _ANNOTATIONS.append((dataset, annotations))


def read_annotations(dataset: Dataset | YtvisDataset) -> CocoAnnotations:
    """Returns the objects of a data set in COCO's format."""
    if isinstance(dataset, YtvisDataset):
        return CocoAnnotations.of_videos(dataset.file)
    if isinstance(dataset, CocoDataset) and not dataset.panoptic:
        kind = LvisAnnotations if dataset.rules == "lvis" else CocoAnnotations
        return kind.of(dataset.file)
    images, objects = [], []
    for index, image in enumerate(dataset.images):
        truth: GroundTruth = dataset.ground_truth(index, "instance")
        assert isinstance(truth, Segments)
        height, width = truth.regions.shape
        images.append({"id": image.id, "height": height, "width": width})
        for mask, label, area in zip(truth.masks, truth.labels, truth.areas, strict=True):
            left, top, right, bottom = mask_box(mask)
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image.id,
                    "category_id": dataset.categories[label].id,
                    "segmentation": encode_rle(mask),
                    "area": int(area),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": label.id, "name": label.name} for label in dataset.categories]
    return CocoAnnotations.of({"images": images, "categories": categories, "annotations": objects})
