"""The evaluation of semantic segmentation: mIoU, and with Cityscapes' rules iIoU."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from PIL import Image

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import CityscapesTruth, Dataset
from m2f_jax.datasets.examples import Segments
from m2f_jax.labels import Label

from ..metrics.semantic.semantic_iou import SemanticIoU
from .classes import ids_of


class SemanticTruth(NamedTuple):
    """The arguments of `SemanticIoU.add`, but for the prediction."""

    class_map: np.ndarray
    instance_ids: np.ndarray | None


@dataclass(frozen=True, eq=False)
class SemanticEvaluation:
    """mIoU, and with Cityscapes' rules iIoU; pixels of no class, or of several, are left out.

    Attributes:
        dataset: the ground truth.
        labels: the category of each of the model's classes.
        export: a folder for maps of the categories' ids.
    """

    task: ClassVar[Task] = "semantic"
    dataset: Dataset
    labels: tuple[Label, ...]
    export: Path | None = None

    def truth(self, index: int) -> SemanticTruth:
        """Returns an image's map of classes."""
        truth = self.dataset.ground_truth(index, self.task)
        if isinstance(truth, CityscapesTruth):
            assert truth.label_ids is not None
            return SemanticTruth(truth.label_ids, truth.instance_ids)
        assert isinstance(truth, Segments)
        return SemanticTruth(truth.class_map(len(self.dataset.categories)), None)

    def measure(self, index: int, truth: SemanticTruth, segmentation: np.ndarray) -> SemanticIoU:
        """Returns the metric of one image's map of class indices."""
        if self.export is not None:
            ids = ids_of(self.labels)[segmentation]
            self.export.mkdir(parents=True, exist_ok=True)
            path = self.export / f"{self.dataset.images[index].name}_pred.png"
            Image.fromarray(ids.astype(np.uint8 if ids.max() < 256 else np.uint16)).save(path)
        return self.count(index, truth, self.prediction(segmentation))

    def prediction(self, segmentation: np.ndarray) -> np.ndarray:
        """Returns a map of class indices in the numbering of the ground truth."""
        if self.dataset.rules == "cityscapes":
            return ids_of(self.labels)[segmentation]
        place = {label.id: k for k, label in enumerate(self.dataset.categories)}
        return np.array([place[label.id] for label in self.labels])[segmentation]

    def count(self, index: int, truth: SemanticTruth, prediction: np.ndarray) -> SemanticIoU:
        """Returns the metric of one image's prediction, in the numbering of the ground truth."""
        metric = self.empty()
        name = self.dataset.images[index].name
        metric.add(truth.class_map, prediction, truth.instance_ids, image=name)
        return metric

    def empty(self) -> SemanticIoU:
        """Returns a metric without images."""
        if self.dataset.rules == "cityscapes":
            return SemanticIoU()
        return SemanticIoU(self.dataset.categories, ignore=len(self.dataset.categories))

    def load(self, path: Path) -> SemanticIoU:
        """Reads a metric that was saved."""
        return SemanticIoU.load(path)
