"""Recognizes a folder of data: a Cityscapes tree, COCO's own folder, or a user's."""

from collections.abc import Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.cityscapes import CityscapesDataset, cityscapes_dataset
from m2f_jax.datasets.coco import CocoDataset, coco_dataset
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.folder import ANNOTATIONS_FILE, folder_dataset
from m2f_jax.datasets.id_maps import IdMapDataset
from m2f_jax.labels import Label


def is_cityscapes(root: Path) -> bool:
    """Whether a folder is a Cityscapes tree."""
    return (root / "leftImg8bit").is_dir()


def is_coco(root: Path) -> bool:
    """Whether a folder is COCO's: annotations/ and train2017/ or val2017/."""
    images = (root / "train2017", root / "val2017")
    return (root / "annotations").is_dir() and any(folder.is_dir() for folder in images)


def has_split(root: Path, split: str) -> bool:
    """Whether a folder has data of this split."""
    if is_cityscapes(root):
        return (root / "leftImg8bit" / split).is_dir()
    if is_coco(root):
        return (root / f"{split}2017").is_dir()
    folder = root / split
    return (folder / ANNOTATIONS_FILE).is_file() or (folder / "ids").is_dir()


def open_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> CityscapesDataset | CocoDataset | IdMapDataset:
    """The data of a split, in any form that `m2f train` accepts.

    Args:
        root: a Cityscapes tree, COCO's own folder, a folder with a folder of the user's for each
            split, or such a folder itself, which then is the split "train".
        split: "train" or "val".
        task: see `TrainingSet`.
        labels: the classes to learn; None for those of the data.
        invalid: what becomes of objects in COCO's format that can't be used, see `read_coco_file`.

    Raises:
        FileNotFoundError: the folder is none of these, or lacks the split.
        ValueError: the data don't fit the classes, or are damaged.
    """
    if is_cityscapes(root):
        return cityscapes_dataset(root, split, task, labels)
    if is_coco(root):
        kind = "instances" if task == "instance" else "panoptic"
        annotations = root / "annotations" / f"{kind}_{split}2017.json"
        return coco_dataset(annotations, root / f"{split}2017", task, labels, invalid=invalid)
    if split == "train" and not (root / split).is_dir():
        return folder_dataset(root, task, labels, invalid)
    return folder_dataset(root / split, task, labels, invalid)
