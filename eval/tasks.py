"""How each task is evaluated: a segmentation of an image becomes a metric of that image.

There is one evaluation per task; `Dataset.rules` decides between Cityscapes' metrics and COCO's.
"""

import collections
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset
from m2f_jax.datasets.dataset import (
    CityscapesTruth,
    Dataset,
    GroundTruth,
    PanopticTruth,
)
from m2f_jax.datasets.examples import Segments
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.inference.processor import FOR_EVALUATION, ImageProcessor
from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    VideoInstanceSegmentation,
)
from m2f_jax.labels import Label
from m2f_jax.masks.boxes import mask_box
from m2f_jax.masks.rle import encode_rle

from .instances_on_device import CountedInstances
from .metrics.cityscapes_ids import panoptic_ground_truth
from .metrics.coco.annotations import CocoAnnotations
from .metrics.coco.lvis_ap import LvisAnnotations, LvisMaskAP
from .metrics.coco.mask_ap import CocoMaskAP
from .metrics.coco.tool import Tool
from .metrics.coco.track_ap import TrackAP
from .metrics.instances.cityscapes_ap import CityscapesInstanceAP
from .metrics.instances.region_tables import Regions
from .metrics.panoptic.panoptic_quality import PanopticQuality
from .metrics.semantic.semantic_iou import SemanticIoU
from .predictions.exports import export_entry, export_panoptic
from .predictions.files import InstancePrediction, PanopticPrediction


class SemanticTruth(NamedTuple):
    """The arguments of `SemanticIoU.add`, but for the prediction."""

    class_map: np.ndarray
    instance_ids: np.ndarray | None


@dataclass(frozen=True, eq=False)
class InstanceEvaluation:
    """Cityscapes' instance AP, or COCO's or LVIS's mask AP.

    Of a panoptic model, the best 100 instances are taken first, then the things among them.

    Attributes:
        dataset: the ground truth.
        labels: the category of each of the model's classes.
        export: a folder for the predictions in the official format.
        tool: computes COCO's mask AP, see `CocoMaskAP`.
    """

    task: ClassVar[Task] = "instance"
    dataset: Dataset
    labels: tuple[Label, ...]
    export: Path | None = None
    tool: Tool | None = None

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

    def measure_counts(
        self, index: int, truth: Regions, counted: CountedInstances, processor: ImageProcessor
    ) -> CityscapesInstanceAP:
        """Returns the metric of one image's instances, whose masks were counted on the device."""
        scores, labels = np.asarray(counted.scores), np.asarray(counted.labels)
        order = processor.order(scores, labels, FOR_EVALUATION)
        metric = CityscapesInstanceAP()
        metric.add_table(
            truth,
            counted.table[order],
            counted.areas[order],
            ids_of(self.labels)[labels[order]],
            scores[order],
            image=self.dataset.images[index].name,
        )
        return metric

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
            return CityscapesInstanceAP()
        # Images without detections don't count, since a part of the data may be evaluated.
        return self.mask_ap(coco_annotations(self.dataset), self.tool, images="added")

    def load(self, path: Path) -> CityscapesInstanceAP | CocoMaskAP:
        """Reads a metric that was saved."""
        if self.dataset.rules == "cityscapes":
            return CityscapesInstanceAP.load(path)
        return self.mask_ap.load(path, coco_annotations(self.dataset), self.tool)

    @property
    def mask_ap(self) -> type[CocoMaskAP]:
        """The metric, if it isn't Cityscapes'."""
        return LvisMaskAP if self.dataset.rules == "lvis" else CocoMaskAP


@dataclass(frozen=True, eq=False)
class PanopticEvaluation:
    """Panoptic quality.

    Attributes:
        dataset: the ground truth.
        labels: the category of each of the model's classes.
        export: a folder for the predictions in COCO's format.
    """

    task: ClassVar[Task] = "panoptic"
    dataset: Dataset
    labels: tuple[Label, ...]
    export: Path | None = None

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
        return PanopticQuality(self.dataset.categories)

    def load(self, path: Path) -> PanopticQuality:
        """Reads a metric that was saved."""
        return PanopticQuality.load(path)


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


@dataclass(frozen=True, eq=False)
class TrackEvaluation:
    """Track AP of videos.

    Attributes:
        dataset: the ground truth.
        labels: the category of each of the model's classes.
        export: a folder for the predictions in YouTubeVIS's format.
    """

    task: ClassVar[Task] = "instance"
    dataset: YtvisDataset
    labels: tuple[Label, ...]
    export: Path | None = None

    def truth(self, index: int) -> None:
        """Returns nothing, since all objects are in memory."""

    def measure(self, index: int, truth: None, segmentation: VideoInstanceSegmentation) -> TrackAP:
        """Returns the metric of one video's tracks."""
        video, tracks = self.dataset.images[index], segmentation.to_rle()
        if self.export is not None:
            export_entry(self.export, video.name, segmentation.to_ytvis(self.labels, video.id))
        ids = ids_of(self.labels)[segmentation.labels]
        return self.count(index, truth, InstancePrediction(tracks, ids, segmentation.scores))

    def count(self, index: int, truth: None, prediction: InstancePrediction) -> TrackAP:
        """Returns the metric of one video's prediction in the data set's ids."""
        del truth
        metric = self.empty()
        metric.add(self.dataset.images[index].id, *prediction)
        return metric

    def empty(self) -> TrackAP:
        """Returns a metric without videos."""
        return TrackAP(coco_annotations(self.dataset), images="added")

    def load(self, path: Path) -> TrackAP:
        """Reads a metric that was saved."""
        return TrackAP.load(path, coco_annotations(self.dataset))


_ANNOTATIONS: collections.deque[tuple[Any, CocoAnnotations]] = collections.deque(maxlen=4)

Evaluation = InstanceEvaluation | PanopticEvaluation | SemanticEvaluation | TrackEvaluation
EVALUATIONS = {
    "panoptic": PanopticEvaluation,
    "semantic": SemanticEvaluation,
}


def evaluation_of(
    dataset: Dataset | YtvisDataset,
    task: Task,
    labels: Sequence[Label] | None = None,
    export: Path | None = None,
    tool: Tool | None = None,
) -> Evaluation:
    """The evaluation of a task, by default of predictions in the data set's own categories."""
    labels = tuple(dataset.categories if labels is None else labels)
    if isinstance(dataset, YtvisDataset):
        return TrackEvaluation(dataset, labels, export)
    if task == "instance":
        return InstanceEvaluation(dataset, labels, export, tool)
    return EVALUATIONS[task](dataset, labels, export)


def matched_labels(
    labels: Sequence[Label], dataset: Dataset | YtvisDataset, task: Task
) -> tuple[Label, ...]:
    """The category of each class of a model: by its name, whose spelling must agree.

    For the instance task, stuff is as in the model, which never predicts it.

    Raises:
        ValueError: a class isn't among the categories, or Cityscapes' stuff is evaluated and the
            model wasn't trained for it.
    """
    by_name = {category.name: category for category in dataset.categories}
    scored = [label for label in labels if label.is_thing or task != "instance"]
    if not scored:
        raise ValueError("the model knows no things; its instance segmentation would be empty")
    unknown = [label.name for label in scored if label.name not in by_name]
    if unknown:
        raise ValueError(
            f"{len(unknown)} of the model's {len(scored)} classes aren't among those of "
            f"{dataset.title}: {', '.join(unknown[:5])}; theirs are "
            f"{', '.join(list(by_name)[:5])} ..."
        )
    if dataset.rules == "cityscapes" and task != "instance" and all(x.is_thing for x in labels):
        raise ValueError(f"the model knows things only; its {task} segmentation would be empty")
    return tuple(by_name.get(label.name, label) for label in labels)


def ids_of(labels: Sequence[Label]) -> np.ndarray:
    """The id of each class."""
    return np.array([label.id for label in labels], int)


def coco_annotations(dataset: Dataset | YtvisDataset) -> CocoAnnotations:
    """The objects of a data set in COCO's format, made once for each of the last few data sets.

    Raises:
        FileNotFoundError, ValueError: the ground truth of an image can't be read.
    """
    for known, annotations in _ANNOTATIONS:
        if known is dataset:
            return annotations
    annotations = read_annotations(dataset)
    _ANNOTATIONS.append((dataset, annotations))
    return annotations


def read_annotations(dataset: Dataset | YtvisDataset) -> CocoAnnotations:
    """The objects of a data set in COCO's format."""
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
