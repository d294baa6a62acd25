"""Which evaluation a task and a data set call for."""

from collections.abc import Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.labels import Label

from ..metrics.coco.tool import Tool
from .instances import InstanceEvaluation
from .panoptic import PanopticEvaluation
from .semantic import SemanticEvaluation
from .tracks import TrackEvaluation

Evaluation = InstanceEvaluation | PanopticEvaluation | SemanticEvaluation | TrackEvaluation


def evaluation_of(
    dataset: Dataset | YtvisDataset,
    task: Task,
    labels: Sequence[Label] | None = None,
    export: Path | None = None,
    tool: Tool | None = None,
    boundary: bool = False,
) -> Evaluation:
    """Returns the evaluation of a task, by default of predictions in the data set's categories.

    Args:
        dataset: the ground truth.
        task: what is scored.
        labels: the category of each of the model's classes.
        export: a folder for the predictions in the official format.
        tool: computes COCO's mask AP, see `CocoMaskAP`.
        boundary: the metric is also to be scored by boundaries.

    Raises:
        ValueError: the task has no boundary measure.
    """
    labels = tuple(dataset.categories if labels is None else labels)
    if boundary:
        check_boundary(dataset, task)
    if isinstance(dataset, YtvisDataset):
        return TrackEvaluation(dataset, labels, export)
    if task == "instance":
        return InstanceEvaluation(dataset, labels, export, tool, boundary)
    if task == "panoptic":
        return PanopticEvaluation(dataset, labels, export, boundary)
    return SemanticEvaluation(dataset, labels, export)


def check_boundary(dataset: Dataset | YtvisDataset, task: Task):
    """Refuses to score by boundaries where there is no such measure.

    Raises:
        ValueError: the message says where there is one.
    """
    if dataset.rules == "youtubevis":
        raise ValueError("the track AP of videos has no boundary measure; leave --boundary out")
    if task == "semantic":
        raise ValueError(
            "--task semantic has no boundary measure; leave --boundary out, or score --task "
            "panoptic (Boundary PQ) or --task instance (Boundary AP)"
        )
