"""Mapillary Vistas 1.2, with 65 classes, 37 of which are things.

It lies as::

    {training,validation}/images/NAME.jpg
    {training,validation}/labels/NAME.png                  semantic
    {training,validation}/panoptic/panoptic_2018.json      panoptic, and objects
    {training,validation}/panoptic/NAME.png

A pixel of labels/ is 0 to 64, or 65 for nothing; the PNG's palette has no meaning. In the
download of version 2.0, labels/ and panoptic/ of version 1.2 lie in {training,validation}/v1.2/.
"""

from collections.abc import Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, coco_dataset
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import chosen_labels
from m2f_jax.datasets.id_maps import IdMapDataset
from m2f_jax.datasets.published.class_maps import class_map_dataset
from m2f_jax.datasets.published.layout import DatasetLayout
from m2f_jax.labels import MAPILLARY_VISTAS, Label, things

FOLDERS = {"train": "training", "val": "validation"}
IMAGES = {split: f"{folder}/images" for split, folder in FOLDERS.items()}
NOTHING = 65  # the value of "Unlabeled", which isn't evaluated


def mapillary_vistas_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> CocoDataset | IdMapDataset:
    """Opens a folder of Mapillary Vistas 1.2.

    Args:
        root: the folder, laid out as this module says.
        split: "train" or "val".
        task: which of the ground truths, see `TrainingSet`.
        labels: the classes to learn, of `MAPILLARY_VISTAS`; None for all of them (for the instance
            task, things).
        invalid: what becomes of objects that can't be used, see `read_coco_file`.

    Raises:
        FileNotFoundError: a folder or a file isn't there.
        ValueError: a class isn't one of Mapillary Vistas', or a file is damaged or contradicts
            itself.
    """
    images = root / IMAGES[split]
    truth = root / FOLDERS[split]
    truth = truth / "v1.2" if (truth / "v1.2").is_dir() else truth
    known = things(MAPILLARY_VISTAS) if task == "instance" else MAPILLARY_VISTAS
    learned = chosen_labels(labels, known, "Mapillary Vistas")
    if task == "semantic":
        return class_map_dataset(
            images,
            truth / "labels",
            title=f"{root}, {split}",
            known=known,
            labels=learned,
            nothing=NOTHING,
        )
    return coco_dataset(
        truth / "panoptic" / "panoptic_2018.json",
        images,
        task,
        learned,
        maps=truth / "panoptic",
        invalid=invalid,
        categories=MAPILLARY_VISTAS,
    )


LAYOUT = DatasetLayout(
    title="Mapillary Vistas",
    images=IMAGES,
    expected=(
        "{training,validation}/images/ with {training,validation}/labels/ (semantic) or "
        "{training,validation}/panoptic/ and its panoptic_2018.json (panoptic, instance)"
    ),
    open=mapillary_vistas_dataset,
)
