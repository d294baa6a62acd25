"""The evaluation of videos: AP of tracks by YouTubeVIS's rules."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from m2f_jax.config import Task
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.inference.results import VideoInstanceSegmentation
from m2f_jax.labels import Label

from ..metrics.coco.track_ap import TrackAP
from ..predictions.exports import export_entry
from ..predictions.files import InstancePrediction
from .annotations import coco_annotations
from .classes import ids_of


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
