"""COCO as published.

It lies as::

    {train,val}2017/NAME.jpg
    annotations/instances_{train,val}2017.json     objects
    annotations/panoptic_{train,val}2017.json      panoptic, semantic
    panoptic_{train,val}2017/NAME.png

The folder of PNGs may also lie in annotations/, beside its JSON file.
"""

from collections.abc import Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, coco_dataset
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.published.layout import DatasetLayout
from m2f_jax.labels import Label


def published_coco_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> CocoDataset:
    """Opens COCO's folder.

    Args:
        root: the folder, laid out as this module says.
        split: "train" or "val".
        task: which of the ground truths, see `TrainingSet`.
        labels: as of `coco_dataset`.
        invalid: what becomes of objects that can't be used, see `read_coco_file`.

    Raises:
        FileNotFoundError: a folder or a file isn't there.
        ValueError: as `coco_dataset`.
    """
    kind = "instances" if task == "instance" else "panoptic"
    annotations = root / "annotations" / f"{kind}_{split}2017.json"
    maps = root / f"panoptic_{split}2017"
    maps = maps if maps.is_dir() else None
    return coco_dataset(annotations, root / f"{split}2017", task, labels, maps, invalid)


LAYOUT = DatasetLayout(
    title="COCO",
    images={split: f"{split}2017" for split in ("train", "val")},
    expected=(
        "{train,val}2017/ with annotations/instances_{train,val}2017.json (instance), or "
        "annotations/panoptic_{train,val}2017.json and panoptic_{train,val}2017/"
    ),
    open=published_coco_dataset,
)
