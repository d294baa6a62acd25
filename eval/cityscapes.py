"""Cityscapes' three tasks: the ground truth of an image, and a model's segmentation measured."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image

from m2f_jax.config import Mask2FormerConfig, Task
from m2f_jax.datasets.cityscapes import CityscapesImage
from m2f_jax.images import read_ids, read_image
from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation
from m2f_jax.inference.segmenter import Segmentation
from m2f_jax.labels import CITYSCAPES, Label

from .metrics.cityscapes_ap import CityscapesInstanceAP
from .metrics.cityscapes_panoptic import panoptic_ground_truth
from .metrics.panoptic_quality import PanopticQuality
from .metrics.region_tables import Regions
from .metrics.semantic_iou import SemanticIoU
from .predictions.exports import export_panoptic
from .predictions.files import PanopticPrediction, Predictions

ENDINGS = {  # the ground truth files that a task reads
    "instance": ("_instanceIds.png",),
    "panoptic": ("_instanceIds.png",),
    "semantic": ("_instanceIds.png", "_labelIds.png"),
}


def check_labels(config: Mask2FormerConfig, task: Task):
    """Refuses a model of other classes.

    Raises:
        ValueError: a class isn't one of Cityscapes', or the model wasn't trained for stuff.
    """
    known = {(label.id, label.name) for label in CITYSCAPES}
    foreign = [label.name for label in config.labels if (label.id, label.name) not in known]
    if foreign:
        raise ValueError(
            f"the model's classes aren't Cityscapes': {', '.join(foreign[:5])}"
            f"{' ...' if len(foreign) > 5 else ''}"
        )
    if task != "instance" and len(config.thing_classes) == config.num_classes:
        raise ValueError(f"the model knows things only; its {task} segmentation would be empty")


@dataclass(frozen=True)
class Instances:
    """Instance AP. Of a panoptic model: the best 100, then the things among them."""

    task: ClassVar[Task] = "instance"
    labels: tuple[Label, ...]
    export: Path | None = None

    def read(self, item: CityscapesImage) -> tuple[np.ndarray, Regions]:
        """The image and its regions."""
        return read_image(item.image), Instances.truth(item)

    @staticmethod
    def truth(item: CityscapesImage) -> Regions:
        """The regions of an image."""
        return Regions.of(read_ids(item.instance_ids))

    def measure(
        self, item: CityscapesImage, truth: Regions, segmentation: Segmentation
    ) -> CityscapesInstanceAP:
        """The table of one image."""
        assert isinstance(segmentation, InstanceSegmentation)
        if self.export is not None:
            folder, stem = self.export, f"{item.name}_pred"
            segmentation.save_cityscapes(folder, stem, self.labels, overwrite=True)
        ids = np.array([label.id for label in self.labels])[segmentation.labels]
        return self.count(item, truth, Predictions(segmentation.masks, ids, segmentation.scores))

    def count(
        self, item: CityscapesImage, truth: Regions, prediction: Predictions
    ) -> CityscapesInstanceAP:
        """The table of one image."""
        metric = self.empty()
        metric.add(truth, *prediction, image=item.name)
        return metric

    def empty(self) -> CityscapesInstanceAP:
        """No image."""
        return CityscapesInstanceAP()

    def load(self, path: Path) -> CityscapesInstanceAP:
        """A table that was saved."""
        return CityscapesInstanceAP.load(path)


@dataclass(frozen=True)
class Panoptic:
    """Panoptic quality; the ground truth is built from instanceIds as by the official converter."""

    task: ClassVar[Task] = "panoptic"
    labels: tuple[Label, ...]
    export: Path | None = None

    def read(self, item: CityscapesImage) -> tuple[np.ndarray, tuple[np.ndarray, list[dict]]]:
        """The image, and its panoptic map with the list of segments."""
        return read_image(item.image), self.truth(item)

    def truth(self, item: CityscapesImage) -> tuple[np.ndarray, list[dict]]:
        """The panoptic map of an image and its list of segments."""
        return panoptic_ground_truth(read_ids(item.instance_ids), item.name)

    def measure(
        self,
        item: CityscapesImage,
        truth: tuple[np.ndarray, list[dict]],
        segmentation: Segmentation,
    ) -> PanopticQuality:
        """The counts of one image."""
        assert isinstance(segmentation, PanopticSegmentation)
        if self.export is not None:
            export_panoptic(self.export, item.name, segmentation, self.labels, item.name)
        segments = [
            {"id": segment.id, "category_id": self.labels[segment.label].id}
            for segment in segmentation.segments
        ]
        return self.count(item, truth, PanopticPrediction(segmentation.segment_map, segments))

    def count(
        self,
        item: CityscapesImage,
        truth: tuple[np.ndarray, list[dict]],
        prediction: PanopticPrediction,
    ) -> PanopticQuality:
        """The counts of one image."""
        metric = self.empty()
        metric.add(*truth, *prediction, image=item.name)
        return metric

    def empty(self) -> PanopticQuality:
        """No image."""
        return PanopticQuality(CITYSCAPES)

    def load(self, path: Path) -> PanopticQuality:
        """Counts that were saved."""
        return PanopticQuality.load(path)


@dataclass(frozen=True)
class Semantic:
    """mIoU and iIoU."""

    task: ClassVar[Task] = "semantic"
    labels: tuple[Label, ...]
    export: Path | None = None

    def read(self, item: CityscapesImage) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The image, its label ids and its instance ids."""
        return read_image(item.image), self.truth(item)

    def truth(self, item: CityscapesImage) -> tuple[np.ndarray, np.ndarray]:
        """The label ids and the instance ids of an image."""
        return read_ids(item.label_ids), read_ids(item.instance_ids)

    def measure(
        self,
        item: CityscapesImage,
        truth: tuple[np.ndarray, np.ndarray],
        segmentation: Segmentation,
    ) -> SemanticIoU:
        """The counts of one image."""
        assert isinstance(segmentation, np.ndarray)
        ids = np.array([label.id for label in self.labels])[segmentation]
        if self.export is not None:
            self.export.mkdir(parents=True, exist_ok=True)
            path = self.export / f"{item.name}_pred.png"
            Image.fromarray(ids.astype(np.uint8)).save(path)
        return self.count(item, truth, ids)

    def count(
        self, item: CityscapesImage, truth: tuple[np.ndarray, np.ndarray], prediction: np.ndarray
    ) -> SemanticIoU:
        """The counts of one image."""
        metric = self.empty()
        label_ids, instance_ids = truth
        metric.add(label_ids, prediction, instance_ids, image=item.name)
        return metric

    def empty(self) -> SemanticIoU:
        """No image."""
        return SemanticIoU()

    def load(self, path: Path) -> SemanticIoU:
        """Counts that were saved."""
        return SemanticIoU.load(path)


def evaluation_of(
    task: Task, labels: Sequence[Label], export: Path | None
) -> Instances | Panoptic | Semantic:
    """The task's evaluation."""
    kinds = {"instance": Instances, "panoptic": Panoptic, "semantic": Semantic}
    return kinds[task](tuple(labels), export)
