"""ADE20K as the authors' scripts prepare it: 150 classes, 100 things among them, or all 847.

The scene parsing challenge::

    ADEChallengeData2016/images/{training,validation}/NAME.jpg
    ADEChallengeData2016/annotations_detectron2/{training,validation}/NAME.png   semantic
    ADEChallengeData2016/ade20k_panoptic_{train,val}.json, ade20k_panoptic_{train,val}/NAME.png
    ADEChallengeData2016/ade20k_instance_{train,val}.json                        objects

A pixel of annotations_detectron2/ is 0 to 149, or 255 for nothing. Where that folder is missing,
the annotations/ of the download serve, in which classes are 1 to 150 and nothing is 0.

The full set, for semantic segmentation alone::

    ADE20K_2021_17_01/images_detectron2/{training,validation}/NAME.jpg
    ADE20K_2021_17_01/annotations_detectron2/{training,validation}/NAME.tif

A pixel is 0 to 846, or 65535 for nothing.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, coco_dataset
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import chosen_labels, only_semantic
from m2f_jax.datasets.id_maps import IdMapDataset
from m2f_jax.datasets.published.class_maps import class_map_dataset
from m2f_jax.datasets.published.layout import DatasetLayout
from m2f_jax.labels import ADE20K, ADE20K_FULL, Label, things

FOLDERS = {"train": "training", "val": "validation"}
IMAGES = {split: f"images/{folder}" for split, folder in FOLDERS.items()}
FULL_IMAGES = {split: f"images_detectron2/{folder}" for split, folder in FOLDERS.items()}
MAPS: Mapping[str, tuple[int, int]] = {  # by folder: the numbers of the first class and of nothing
    "annotations_detectron2": (0, 255),
    "annotations": (1, 0),
}


def ade20k_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> CocoDataset | IdMapDataset:
    """Opens ADEChallengeData2016.

    Args:
        root: the folder, laid out as this module says.
        split: "train" or "val".
        task: which of the ground truths, see `TrainingSet`.
        labels: the classes to learn, of `ADE20K`; None for all of them (for the instance task, the
            100 things).
        invalid: what becomes of objects that can't be used, see `read_coco_file`.

    Raises:
        FileNotFoundError: a folder or a file isn't there.
        ValueError: a class isn't one of ADE20K's, or a file is damaged or contradicts itself.
    """
    images = root / IMAGES[split]
    if task == "semantic":
        folder = next((name for name in MAPS if (root / name).is_dir()), next(iter(MAPS)))
        first, nothing = MAPS[folder]
        return class_map_dataset(
            images,
            root / folder / FOLDERS[split],
            title=f"{root}, {split} ({folder})",
            known=ADE20K,
            labels=chosen_labels(labels, ADE20K, "ADE20K"),
            nothing=nothing,
            first=first,
        )
    known = things(ADE20K) if task == "instance" else ADE20K
    learned = chosen_labels(labels, known, "ADE20K")
    annotations = root / f"ade20k_{task}_{split}.json"
    return coco_dataset(annotations, images, task, learned, invalid=invalid, categories=known)


def ade20k_full_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> IdMapDataset:
    """Opens ADE20K_2021_17_01; arguments and errors as of `ade20k_dataset`.

    Raises:
        ValueError: also, the task isn't "semantic".
    """
    del invalid  # for objects, of which there are none
    only_semantic(task, "the full ADE20K")
    return class_map_dataset(
        root / FULL_IMAGES[split],
        root / "annotations_detectron2" / FOLDERS[split],
        title=f"{root}, {split}",
        known=ADE20K_FULL,
        labels=chosen_labels(labels, ADE20K_FULL, "the full ADE20K"),
        nothing=65_535,
        ending=".tif",
    )


LAYOUT = DatasetLayout(
    title="ADE20K",
    images=IMAGES,
    expected=(
        "images/{training,validation}/ with annotations_detectron2/ (semantic), "
        "ade20k_panoptic_{train,val}.json and ade20k_panoptic_{train,val}/ (panoptic) or "
        "ade20k_instance_{train,val}.json (instance), as in the authors' ADEChallengeData2016"
    ),
    open=ade20k_dataset,
)


FULL_LAYOUT = DatasetLayout(
    title="The full ADE20K",
    images=FULL_IMAGES,
    expected=(
        "images_detectron2/{training,validation}/ and "
        "annotations_detectron2/{training,validation}/ as in the authors' ADE20K_2021_17_01"
    ),
    open=ade20k_full_dataset,
)
