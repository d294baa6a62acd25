"""The evaluation of panoptic segmentation: panoptic quality, and Boundary PQ beside it."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import CityscapesTruth, Dataset, PanopticTruth
from m2f_jax.inference.results import PanopticSegmentation
from m2f_jax.labels import Label

from ..metrics.boundary import CITYSCAPES_DILATION_RATIO, DILATION_RATIO
from ..metrics.cityscapes.ids import panoptic_ground_truth
from ..metrics.panoptic.boundary_quality import PanopticQualityWithBoundary
from ..metrics.panoptic.panoptic_quality import PanopticQuality
from ..predictions.exports import export_panoptic
from ..predictions.files import PanopticPrediction
from .classes import ids_of


@dataclass(frozen=True, eq=False)
class PanopticEvaluation:
    """Panoptic quality.

    Attributes:
        dataset: the ground truth.
        labels: the category of each of the model's classes.
        export: a folder for the predictions in COCO's format.
        boundary: also Boundary PQ, with the authors' dilation ratio for the data set.
    """

    task: ClassVar[Task] = "panoptic"
    dataset: Dataset
    labels: tuple[Label, ...]
    export: Path | None = None
    boundary: bool = False

    def truth(self, index: int) -> PanopticTruth:
        """Returns an image's panoptic map and its list of segments.

        Raises:
            ValueError: the segments overlap.
        """
        image = self.dataset.images[index]
        truth = self.dataset.ground_truth(index, self.task)
        if isinstance(truth, CityscapesTruth):
            return PanopticTruth(*panoptic_ground_truth(truth.instance_ids, image.name))
        if isinstance(truth, PanopticTruth):
            return truth
        if truth.overlap:
            raise ValueError(
                f"objects of {image.image} overlap; panoptic quality needs a file in which each "
                "pixel has one segment"
            )
        ids = ids_of(self.dataset.categories)[truth.labels].tolist()
        segment_map = (truth.members.argmax(axis=0) + 1) * truth.members.any(axis=0)
        segments = [{"id": k, "category_id": id_} for k, id_ in enumerate(ids, 1)]
        return PanopticTruth(segment_map.astype(np.int32)[truth.regions], segments)

    def measure(
        self, index: int, truth: PanopticTruth, segmentation: PanopticSegmentation
    ) -> PanopticQuality:
        """Returns the metric of one image's segmentation."""
        image = self.dataset.images[index]
        if self.export is not None:
            export_panoptic(self.export, image.name, segmentation, self.labels, image.id)
        return self.count(index, truth, self.prediction(segmentation))

    def prediction(self, segmentation: PanopticSegmentation) -> PanopticPrediction:
        """Returns a segmentation in the data set's ids."""
        segments = [
            {"id": segment.id, "category_id": self.labels[segment.label].id}
            for segment in segmentation.segments
        ]
        return PanopticPrediction(segmentation.segment_map, segments)

    def count(
        self, index: int, truth: PanopticTruth, prediction: PanopticPrediction
    ) -> PanopticQuality:
        """Returns the metric of one image's prediction in the data set's ids."""
        metric = self.empty()
        metric.add(*truth, *prediction, image=self.dataset.images[index].name)
        return metric

    def empty(self) -> PanopticQuality:
        """Returns a metric without images."""
        if not self.boundary:
            return PanopticQuality(self.dataset.categories)
        by_cityscapes = self.dataset.rules == "cityscapes"
        ratio = CITYSCAPES_DILATION_RATIO if by_cityscapes else DILATION_RATIO
        return PanopticQualityWithBoundary(self.dataset.categories, ratio)

    def load(self, path: Path) -> PanopticQuality:
        """Reads a metric that was saved."""
        return type(self.empty()).load(path)
