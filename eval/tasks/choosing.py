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
EVALUATIONS = {"panoptic": PanopticEvaluation, "semantic": SemanticEvaluation}


def evaluation_of(
    dataset: Dataset | YtvisDataset,
    task: Task,
    labels: Sequence[Label] | None = None,
    export: Path | None = None,
    tool: Tool | None = None,
) -> Evaluation:
    """Returns the evaluation of a task, by default of predictions in the data set's categories."""
    labels = tuple(dataset.categories if labels is None else labels)
    if isinstance(dataset, YtvisDataset):
        return TrackEvaluation(dataset, labels, export)
    if task == "instance":
        return InstanceEvaluation(dataset, labels, export, tool)
    return EVALUATIONS[task](dataset, labels, export)
