"""The folder that `m2f train --data` names: images to learn from and to evaluate on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.opening import has_split, open_dataset
from m2f_jax.eval.evaluation import checked_evaluation
from m2f_jax.labels import Label


@dataclass(frozen=True)
class TrainingData:
    """Where a training run's images come from.

    Attributes:
        examples: to learn from.
        held_out: to evaluate on; None if there are none.
    """

    examples: Dataset
    held_out: Dataset | None


def find_data(
    root: Path, task: Task, labels: Sequence[Label] | None, invalid: Invalid = "refuse"
) -> TrainingData:
    """The splits train and val of a folder, see `open_dataset`.

    Args:
        root: the folder.
        task: what the model is trained for.
        labels: the classes to learn; None for those of the data.
        invalid: what becomes of objects that can't be used, see `open_dataset`.

    Raises:
        FileNotFoundError: the folder isn't one that can be opened.
        ValueError: the data don't fit the classes, or are damaged.
    """
    examples = open_dataset(root, "train", task, labels, invalid)
    if not has_split(root, "val"):
        return TrainingData(examples, None)
    # A COCO file may have more categories than are learned; they are matched by name.
    known = None if isinstance(examples, CocoDataset) else examples.labels
    held_out = open_dataset(root, "val", task, known, invalid)
    if task == "panoptic" and isinstance(held_out, CocoDataset) and not held_out.panoptic:
        raise ValueError(
            f"{held_out.annotations} has objects, which can't be evaluated as panoptic "
            "segmentation; replace it by a panoptic file, or remove it"
        )
    checked_evaluation(held_out, task, examples.labels)  # now rather than after many steps
    return TrainingData(examples, held_out)
