"""A user's own images with maps of ids, as data to evaluate on (`m2f_jax.datasets.folder`).

Groups of things count as nothing here: what is found there is wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from m2f_jax.config import Task
from m2f_jax.datasets.examples import Segments
from m2f_jax.datasets.id_maps import IdMapExamples
from m2f_jax.images import read_image
from m2f_jax.inference.results import PanopticSegmentation, encode_rle, mask_box
from m2f_jax.inference.segmenter import Segmentation

from .coco import CocoImage, CocoInstances
from .metrics.coco_annotations import CocoAnnotations
from .metrics.panoptic_quality import PanopticQuality
from .metrics.semantic_iou import SemanticIoU


@dataclass(frozen=True)
class IdMapImage:
    """One image with its map of ids."""

    image: Path
    ids: Path

    @property
    def name(self) -> str:
        """The name of its table."""
        return self.image.stem


@dataclass(frozen=True)
class IdMapPanoptic:
    """Panoptic quality."""

    task: ClassVar[Task] = "panoptic"
    examples: IdMapExamples

    def read(self, item: IdMapImage) -> tuple[np.ndarray, Segments]:
        """The image and its segments."""
        return read_image(item.image), self.examples.segments(item.ids)

    def measure(
        self, item: IdMapImage, truth: Segments, segmentation: Segmentation
    ) -> PanopticQuality:
        """The counts of one image."""
        assert isinstance(segmentation, PanopticSegmentation)
        ids = [label.id for label in self.examples.labels]
        metric = self.empty()
        metric.add(
            truth.regions,
            [{"id": k, "category_id": ids[label]} for k, label in enumerate(truth.labels, 1)],
            segmentation.segment_map,
            [{"id": x.id, "category_id": ids[x.label]} for x in segmentation.segments],
            image=item.name,
        )
        return metric

    def empty(self) -> PanopticQuality:
        """No image."""
        return PanopticQuality(self.examples.labels)

    def load(self, path: Path) -> PanopticQuality:
        """Counts that were saved."""
        return PanopticQuality.load(path)


@dataclass(frozen=True)
class IdMapSemantic:
    """mIoU; pixels of no class are left out."""

    task: ClassVar[Task] = "semantic"
    examples: IdMapExamples

    def read(self, item: IdMapImage) -> tuple[np.ndarray, Segments]:
        """The image and its segments, one per class."""
        return read_image(item.image), self.examples.segments(item.ids)

    def measure(self, item: IdMapImage, truth: Segments, segmentation: Segmentation) -> SemanticIoU:
        """The counts of one image."""
        assert isinstance(segmentation, np.ndarray)
        metric = self.empty()
        nothing = len(self.examples.labels)
        class_of_region = np.concatenate([[nothing], truth.labels])
        metric.add(class_of_region[truth.regions], segmentation, image=item.name)
        return metric

    def empty(self) -> SemanticIoU:
        """No image."""
        labels = self.examples.labels
        return SemanticIoU(labels, ignore=len(labels))

    def load(self, path: Path) -> SemanticIoU:
        """Counts that were saved."""
        return SemanticIoU.load(path)


def id_map_evaluation(
    examples: IdMapExamples,
) -> tuple[Sequence[Any], CocoInstances | IdMapPanoptic | IdMapSemantic]:
    """The images of a set, and how its task is evaluated: mask AP as COCO has it, PQ or mIoU.

    Raises:
        FileNotFoundError, ValueError: a map of ids is missing, damaged or has unknown ids.
    """
    if examples.task == "instance":
        items = [CocoImage(image.stem, image) for image, _ in examples.files]
        return items, CocoInstances(CocoAnnotations.of(annotations_of(examples)), examples.labels)
    items = [IdMapImage(*files) for files in examples.files]
    kind = IdMapPanoptic if examples.task == "panoptic" else IdMapSemantic
    return items, kind(examples)


def annotations_of(examples: IdMapExamples) -> dict[str, Any]:
    """The objects of all maps of ids in COCO's format; images go by their names without ending."""
    images, objects = [], []
    for image, ids in examples.files:
        segments = examples.segments(ids)
        height, width = segments.regions.shape
        images.append({"id": image.stem, "height": height, "width": width})
        for mask, label, area in zip(segments.masks, segments.labels, segments.areas, strict=True):
            left, top, right, bottom = mask_box(mask)
            objects.append(
                {
                    "id": len(objects) + 1,
                    "image_id": image.stem,
                    "category_id": examples.labels[label].id,
                    "segmentation": encode_rle(mask),
                    "area": int(area),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": label.id, "name": label.name} for label in examples.labels]
    return {"images": images, "categories": categories, "annotations": objects}
