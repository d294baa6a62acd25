"""COCO-Stuff 10k 1.0 as the authors' script prepares it, with 171 classes.

It lies as::

    coco_stuff_10k/images_detectron2/{train,test}/NAME.jpg
    coco_stuff_10k/annotations_detectron2/{train,test}/NAME.png

A pixel is 0 to 170, the position of its class in `COCO_STUFF`, or 255 for nothing. The
split for evaluation is called test.
"""

from collections.abc import Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import chosen_labels, only_semantic
from m2f_jax.datasets.id_maps import IdMapDataset
from m2f_jax.datasets.published.class_maps import class_map_dataset
from m2f_jax.datasets.published.layout import DatasetLayout
from m2f_jax.labels import COCO_STUFF, Label

FOLDERS = {"train": "train", "val": "test"}
IMAGES = {split: f"images_detectron2/{folder}" for split, folder in FOLDERS.items()}


def coco_stuff_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> IdMapDataset:
    """Opens a folder of COCO-Stuff 10k.

    Args:
        root: the folder, laid out as this module says.
        split: "train", or "val" for test.
        task: "semantic".
        labels: the classes to learn, of `COCO_STUFF`; None for all of them.
        invalid: has no effect, since there are no objects.

    Raises:
        FileNotFoundError: a folder or a file isn't there.
        ValueError: a class isn't one of COCO-Stuff's, or the task is another.
    """
    del invalid
    only_semantic(task, "COCO-Stuff")
    return class_map_dataset(
        root / IMAGES[split],
        root / "annotations_detectron2" / FOLDERS[split],
        title=f"{root}, {FOLDERS[split]}",
        known=COCO_STUFF,
        labels=chosen_labels(labels, COCO_STUFF, "COCO-Stuff"),
        nothing=255,
    )


LAYOUT = DatasetLayout(
    title="COCO-Stuff",
    images=IMAGES,
    expected=(
        "images_detectron2/{train,test}/ and annotations_detectron2/{train,test}/ "
        "as in the authors' coco_stuff_10k"
    ),
    open=coco_stuff_dataset,
)
