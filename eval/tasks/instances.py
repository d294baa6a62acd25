"""The evaluation of instances: Cityscapes' AP, or COCO's or LVIS's mask AP."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import CityscapesTruth, Dataset
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.labels import Label

from ..metrics.cityscapes.boundary_ap import CityscapesInstanceAPWithBoundary
from ..metrics.cityscapes.instance_ap import CityscapesInstanceAP
from ..metrics.cityscapes.region_tables import Regions
from ..metrics.coco.lvis_ap import LvisMaskAP
from ..metrics.coco.mask_ap import CocoMaskAP
from ..metrics.coco.tool import Tool
from ..predictions.exports import export_entry
from ..predictions.files import InstancePrediction
from .annotations import coco_annotations
from .classes import ids_of


@dataclass(frozen=True, eq=False)
class InstanceEvaluation:
    """Cityscapes' instance AP, or COCO's or LVIS's mask AP.

    Of a panoptic model, the best 100 instances are taken first, then the things among them.

    Attributes:
        dataset: the ground truth.
        labels: the category of each of the model's classes.
        export: a folder for the predictions in the official format.
        tool: computes COCO's mask AP, see `CocoMaskAP`.
        boundary: Cityscapes' metric counts boundaries, too; the others keep the masks.
    """

    task: ClassVar[Task] = "instance"
    dataset: Dataset
    labels: tuple[Label, ...]
    export: Path | None = None
    tool: Tool | None = None
    boundary: bool = False

    def truth(self, index: int) -> Regions | None:
        """Returns an image's regions; None for COCO's rules, where all objects are in memory."""
        if self.dataset.rules != "cityscapes":
            return None
        truth = self.dataset.ground_truth(index, self.task)
        assert isinstance(truth, CityscapesTruth)
        return Regions.of(truth.instance_ids)

    def measure(
        self, index: int, truth: Regions | None, segmentation: InstanceSegmentation
    ) -> CityscapesInstanceAP | CocoMaskAP:
        """Returns the metric of one image's segmentation."""
        image = self.dataset.images[index]
        if self.export is not None and self.dataset.rules == "cityscapes":
            stem = f"{image.name}_pred"
            segmentation.save_cityscapes(self.export, stem, self.labels, overwrite=True)
        elif self.export is not None:
            export_entry(self.export, image.name, segmentation.to_coco(self.labels, image.id))
        return self.count(index, truth, self.prediction(segmentation))

    def prediction(self, segmentation: InstanceSegmentation) -> InstancePrediction:
        """Returns a segmentation in the data set's ids."""
        ids = ids_of(self.labels)[segmentation.labels]
        return InstancePrediction(segmentation.masks, ids, segmentation.scores)

    def count(
        self, index: int, truth: Regions | None, prediction: InstancePrediction
    ) -> CityscapesInstanceAP | CocoMaskAP:
        """Returns the metric of one image's prediction in the data set's ids."""
        image, metric = self.dataset.images[index], self.empty()
        if isinstance(metric, CityscapesInstanceAP):
            assert truth is not None
            metric.add(truth, *prediction, image=image.name)
        else:
            metric.add(image.id, *prediction)
        return metric

    def empty(self) -> CityscapesInstanceAP | CocoMaskAP:
        """Returns a metric without images."""
        if self.dataset.rules == "cityscapes":
            return self.cityscapes_ap()
        # Images without detections don't count, since a part of the data may be evaluated.
        return self.mask_ap(coco_annotations(self.dataset), self.tool, images="added")

    def load(self, path: Path) -> CityscapesInstanceAP | CocoMaskAP:
        """Reads a metric that was saved."""
        if self.dataset.rules == "cityscapes":
            return self.cityscapes_ap.load(path)
        return self.mask_ap.load(path, coco_annotations(self.dataset), self.tool)

    @property
    def mask_ap(self) -> type[CocoMaskAP]:
        """The metric, if it isn't Cityscapes'."""
        return LvisMaskAP if self.dataset.rules == "lvis" else CocoMaskAP

    @property
    def cityscapes_ap(self) -> type[CityscapesInstanceAP]:
        """The metric by Cityscapes' rules."""
        return CityscapesInstanceAPWithBoundary if self.boundary else CityscapesInstanceAP
