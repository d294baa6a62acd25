"""The folder that `m2f train --data` names: images to learn from and to evaluate on."""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2f_jax.cli.scores import scores_of
from m2f_jax.config import Task, read_json
from m2f_jax.datasets.cityscapes import cityscapes_examples, cityscapes_images
from m2f_jax.datasets.coco import coco_examples
from m2f_jax.datasets.examples import Examples
from m2f_jax.datasets.folder import ANNOTATIONS_FILE, folder_examples
from m2f_jax.datasets.id_maps import IdMapExamples
from m2f_jax.eval.cityscapes import ENDINGS, evaluation_of
from m2f_jax.eval.coco import CocoInstances, CocoPanoptic, coco_images, labels_as, labels_of
from m2f_jax.eval.evaluate import Evaluation, from_bytes, measure_all, merged, to_bytes
from m2f_jax.eval.id_maps import id_map_evaluation
from m2f_jax.eval.metrics.coco_annotations import CocoAnnotations
from m2f_jax.eval.processes import exchange, share_of
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import CITYSCAPES, Label, things

MAIN_SCORE = {"instance": "AP", "panoptic": "PQ", "semantic": "mIoU"}


@dataclass(frozen=True)
class TrainingData:
    """Where a training's images come from.

    Attributes:
        examples: to learn from.
        items: to evaluate on; empty if there are none.
        evaluation: how; None if there are none.
    """

    examples: Examples
    items: Sequence[Any]
    evaluation: Evaluation | None


def find_data(root: Path, task: Task, labels: Sequence[Label] | None) -> TrainingData:
    """A Cityscapes tree, COCO's own folder, or a folder with train/ and val/ of the user's own.

    Args:
        root: the folder.
        task: what the model is trained for.
        labels: the classes to learn; None for those of the data.

    Raises:
        FileNotFoundError: the folder is none of these.
        ValueError: the data don't fit the classes, or are damaged.
    """
    if (root / "leftImg8bit").is_dir():
        return cityscapes_data(root, task, labels)
    if (root / "annotations").is_dir() and (root / "train2017").is_dir():
        kind = "instances" if task == "instance" else "panoptic"
        files = [root / "annotations" / f"{kind}_{part}2017.json" for part in ("train", "val")]
        return coco_data(files, [root / "train2017", root / "val2017"], task, labels)
    train, val = root / "train", root / "val"
    if not train.is_dir():
        return TrainingData(folder_examples(root, task, labels), (), None)
    if (val / ANNOTATIONS_FILE).is_file() and (train / ANNOTATIONS_FILE).is_file():
        files = [part / ANNOTATIONS_FILE for part in (train, val)]
        return coco_data(files, [train / "images", val / "images"], task, labels)
    examples = folder_examples(train, task, labels)
    if not (val / "ids").is_dir():
        return TrainingData(examples, (), None)
    held_out = folder_examples(val, task, examples.labels)
    assert isinstance(held_out, IdMapExamples)  # for it has ids/
    return TrainingData(examples, *id_map_evaluation(held_out))


def cityscapes_data(root: Path, task: Task, labels: Sequence[Label] | None) -> TrainingData:
    """The train and val splits of a Cityscapes tree."""
    if labels is None:
        labels = CITYSCAPES if task != "instance" else things(CITYSCAPES)
    examples = cityscapes_examples(root, "train", labels, task)
    if not (root / "leftImg8bit" / "val").is_dir():
        return TrainingData(examples, (), None)
    items = cityscapes_images(root, "val", ENDINGS[task])
    return TrainingData(examples, items, evaluation_of(task, labels, None))


def coco_data(
    annotations: Sequence[Path], images: Sequence[Path], task: Task, labels: Sequence[Label] | None
) -> TrainingData:
    """Annotation files and image folders to learn from and to evaluate on."""
    examples = coco_examples(annotations[0], images[0], task, labels)
    if task == "semantic":
        return TrainingData(examples, (), None)
    categories = labels_of(read_json(annotations[1])["categories"])
    learned = labels_as(examples.labels, categories)
    items = coco_images(annotations[1], images[1], panoptic=task == "panoptic")
    if task == "instance":
        return TrainingData(
            examples, items, CocoInstances(CocoAnnotations.of(annotations[1]), learned)
        )
    maps = annotations[1].with_suffix("")
    return TrainingData(examples, items, CocoPanoptic(categories, learned, maps))


def evaluate(
    segmenter: Segmenter, data: TrainingData, progress: Callable[[], None]
) -> dict[str, float]:
    """The scores on the evaluation images, in percent; every process has its part of them.

    Raises:
        ValueError: an image can't be read or segmented.
    """
    assert data.evaluation is not None
    with tempfile.TemporaryDirectory() as folder:
        ours = share_of(data.items)
        for _, error in measure_all(segmenter, data.evaluation, ours, Path(folder)):
            if error is not None:
                raise error
            progress()
        part = to_bytes(merged(data.evaluation, Path(folder), ours))
    metric = data.evaluation.empty()
    for other in exchange(part):
        metric.merge(from_bytes(data.evaluation, other))
    return scores_of(metric.result())
