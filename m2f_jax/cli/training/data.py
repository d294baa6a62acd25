"""The folder that `m2f train --data` names: images to learn from and to evaluate on."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console

from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.config import Task
from m2f_jax.datasets.checked_files import CheckedFiles
from m2f_jax.datasets.checking import (
    Contents,
    Progress,
    check_examples,
    check_images,
    read_contents,
    with_segments,
)
from m2f_jax.datasets.coco import CocoDataset
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import SHOWN, Dataset, TrainingSet
from m2f_jax.datasets.opening import has_split, open_dataset
from m2f_jax.eval.evaluation import checked_evaluation
from m2f_jax.eval.tasks import evaluation_of, matched_labels
from m2f_jax.labels import Label


@dataclass(frozen=True)
class TrainingData:
    """The images of a training run.

    Attributes:
        examples: the images to learn from.
        held_out: the images to evaluate on; None if there are none.
    """

    examples: Dataset
    held_out: Dataset | None


def find_data(
    root: Path, task: Task, labels: Sequence[Label] | None, invalid: Invalid = "refuse"
) -> TrainingData:
    """Opens the splits train and val of a folder, see `open_dataset`.

    Args:
        root: the folder.
        task: what the model is trained for.
        labels: the classes to learn; None for those of the data.
        invalid: what becomes of objects that can't be used, see `open_dataset`.

    Raises:
        FileNotFoundError: the folder isn't one that can be opened.
        ValueError: the data don't fit the task or the classes, or are damaged.
    """
    examples = open_dataset(root, "train", task, labels, invalid)
    check_task(examples, task)
    if not has_split(root, "val"):
        return TrainingData(examples, None)
    # A COCO file may have more categories than are learned; they are matched by name.
    known = None if isinstance(examples, CocoDataset) else examples.labels
    held_out = open_dataset(root, "val", task, known, invalid)
    check_task(held_out, task)
    matched_labels(examples.labels, held_out, task)  # now rather than after many steps
    return TrainingData(examples, held_out)


def check_task(dataset: Dataset, task: Task):
    """Refuses to learn or to score panoptic segmentation on a file of objects.

    Raises:
        ValueError: naming the file.
    """
    if task == "panoptic" and isinstance(dataset, CocoDataset) and not dataset.panoptic:
        raise ValueError(
            f"{dataset.annotations} has objects; a panoptic recipe needs a panoptic file, in which "
            "stuff has segments, too. Put one in its place, or learn instances (--task instance)"
        )


def check_data(
    data: TrainingData,
    *,
    evaluate_images: int | None,
    keep_empty_images: bool,
    trust: bool,
    record: CheckedFiles,
    console: Console,
) -> TrainingSet:
    """Reads all files before the first step, and says what is left out.

    Args:
        data: what `find_data` found.
        evaluate_images: only so many images are evaluated on; None for all.
        keep_empty_images: whether images without an object are learned from.
        trust: don't read the pictures, and nothing at all where `keep_empty_images`.
        record: what was read before.
        console: where messages are printed.

    Returns:
        The images to learn from.

    Raises:
        FileNotFoundError: files are missing.
        ValueError: files are damaged, or don't fit each other.
    """
    examples, held_out = data.examples, data.held_out
    if trust and keep_empty_images:
        selected: TrainingSet = examples
    else:
        read = record.checked(read_ground_truth if trust else read_contents)
        with ImageProgress("checking", len(examples), console) as bar:
            contents = check_examples(examples, shown(bar), check=lambda k: read(examples, k))
        for line in findings(examples, contents, keep_empty_images):
            console.print(line)
        selected = examples if keep_empty_images else with_segments(examples, contents.counts)
    if held_out is None:
        console.print("there is no val to evaluate on: only the losses tell how good the model is")
        return selected
    if not trust:
        check = record.checked(read_for_evaluation)
        count = len(held_out.images[:evaluate_images])
        with ImageProgress("checking val", count, console) as bar:
            check_images(count, lambda k: check(held_out, k), shown(bar))
    checked_evaluation(held_out, examples.task, examples.labels, evaluate_images)
    return selected


def shown(bar: ImageProgress) -> Progress:
    """Returns a function that moves a bar, which shows no rate."""
    bar.bar.update(bar.row, rate="")
    return lambda done, _: bar.advance() if done else None


def read_ground_truth(dataset: TrainingSet, index: int) -> Contents:
    """Reads the ground truth of an image, but not its pixels."""
    counts = dataset.check(index)
    return Contents(counts, np.zeros_like(counts))


def read_for_evaluation(dataset: Dataset, index: int) -> Contents:
    """Reads an image, and its ground truth as training and as the metric take it."""
    contents = read_contents(dataset, index)
    evaluation_of(dataset, dataset.task).truth(index)
    return contents


def findings(examples: Dataset, contents: Contents, keep_empty_images: bool) -> list[str]:
    """Returns messages: how many images are left out, and which objects have no pixels."""
    empty = int((~contents.counts.any(axis=1)).sum())
    done = "kept" if keep_empty_images else "left out (--keep-empty-images keeps them)"
    lines = [
        f"{len(examples)} images to learn from; {empty} of them hold no object"
        + (f" and are {done}" if empty else "")
    ]
    if hidden := int(contents.without_pixels.sum()):
        places = np.flatnonzero(contents.without_pixels.any(axis=1)).tolist()
        names = [
            f"{examples.images[i].image} ("
            + ", ".join(
                examples.labels[k].name for k in np.flatnonzero(contents.without_pixels[i]).tolist()
            )
            + ")"
            for i in places[:SHOWN]
        ]
        more = f" and {len(places) - SHOWN} more images" if len(places) > SHOWN else ""
        lines.append(
            f"{hidden} objects have no pixel and are left out, in {', '.join(names)}{more}"
        )
    return lines
