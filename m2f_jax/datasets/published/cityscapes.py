"""A Cityscapes tree: leftImg8bit/<split>/<city>/ and gtFine/<split>/<city>/."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from m2f_jax.config import Task
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import CityscapesTruth, chosen_labels
from m2f_jax.datasets.examples import Example
from m2f_jax.datasets.id_maps import IdMapDataset, IdMapImage
from m2f_jax.datasets.published.layout import DatasetLayout
from m2f_jax.images import read_ids
from m2f_jax.labels import CITYSCAPES, Label, things

IMAGE_ENDING = "_leftImg8bit.png"
CLASS_IDS = range(34)  # all in the ground truth, of which those of CITYSCAPES are evaluated
ENDINGS = {  # the ground truth files that a task's metric reads
    "instance": ("_instanceIds.png",),
    "panoptic": ("_instanceIds.png",),
    "semantic": ("_instanceIds.png", "_labelIds.png"),
}


@dataclass(frozen=True)
class CityscapesImage:
    """One image and its ground truth; `name` is <city>_<sequence>_<frame>."""

    name: str
    image: Path
    ground_truth: Path  # without its ending

    @property
    def id(self) -> str:
        """The name."""
        return self.name

    def ground_truth_file(self, ending: str) -> Path:
        """Returns the ground truth file with this ending, such as "_instanceIds.png"."""
        return self.ground_truth.with_name(self.ground_truth.name + ending)

    @property
    def instance_ids(self) -> Path:
        """The 16-bit map of object ids: class id x 1000 + number, or a bare class id."""
        return self.ground_truth_file("_instanceIds.png")

    @property
    def label_ids(self) -> Path:
        """The 8-bit map of class ids."""
        return self.ground_truth_file("_labelIds.png")


def cityscapes_images(root: Path, split: str, endings: Sequence[str]) -> list[CityscapesImage]:
    """Returns the images of a split, in order of their names.

    Args:
        root: the folder with leftImg8bit and gtFine.
        split: "train", "val" or "test".
        endings: of the ground truth files that each image must have, such as "_instanceIds.png".

    Raises:
        FileNotFoundError: a folder isn't there, an image lacks ground truth, or the reverse.
    """
    folders = [root / kind / split for kind in ("leftImg8bit", "gtFine")]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing")
    paths = sorted(folders[0].glob(f"*/*{IMAGE_ENDING}"))
    images = []
    for path in paths:
        name = path.name.removesuffix(IMAGE_ENDING)
        truth = folders[1] / path.parent.name / f"{name}_gtFine"
        images.append(CityscapesImage(name, path, truth))
    if not images:
        raise FileNotFoundError(f"{folders[0]} holds no <city>/*{IMAGE_ENDING}")

    def example(what: str, names: Sequence[Path]):
        if names:
            raise FileNotFoundError(f"{len(names)} {what}, the first one {names[0]}")

    for ending in endings:
        wanted = {image.ground_truth_file(ending) for image in images}
        there = set(folders[1].glob(f"*/*_gtFine{ending}"))
        example("ground truth files are missing", sorted(wanted - there))
        example("ground truth files have no image", sorted(there - wanted))
    return images


@dataclass(frozen=True, eq=False)
class CityscapesDataset:
    """The images of a split with their ground truth.

    The authors train instances on the polygons of *_gtFine_polygons.json, and semantic segmentation
    on *_gtFine_labelTrainIds.png; *_gtFine_instanceIds.png holds the same regions. Groups, and
    classes that aren't evaluated, are left out of the training examples.

    Attributes:
        root: the folder.
        split: such as "val".
        images: the files.
        id_maps: the training examples.
    """

    root: Path
    split: str
    images: tuple[CityscapesImage, ...]
    id_maps: IdMapDataset

    @property
    def rules(self) -> Literal["cityscapes"]:
        """Cityscapes' metrics."""
        return "cityscapes"

    @property
    def categories(self) -> tuple[Label, ...]:
        """The evaluated classes."""
        return CITYSCAPES

    @property
    def title(self) -> str:
        """The folder and the split."""
        return f"{self.root}, {self.split}"

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes to learn."""
        return self.id_maps.labels

    @property
    def task(self) -> Task:
        """What the segments are."""
        return self.id_maps.task

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        return self.id_maps[index]

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """Checks as `IdMapDataset.check`."""
        return self.id_maps.check(index)

    def files(self, index: int, task: Task) -> Sequence[Path]:
        """Returns the image and the ground truth that the task's metric reads."""
        image = self.images[index]
        return image.image, *(image.ground_truth_file(ending) for ending in ENDINGS[task])

    def ground_truth(self, index: int, task: Task) -> CityscapesTruth:
        """Returns the maps of an image.

        Raises:
            FileNotFoundError: a map is missing.
            ValueError: a map is damaged.
        """
        image = self.images[index]
        instance_ids = read_ids(image.instance_ids, "grey")
        label_ids = read_ids(image.label_ids, "grey") if task == "semantic" else None
        return CityscapesTruth(instance_ids, label_ids)


def cityscapes_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> CityscapesDataset:
    """Returns the images of a split with their ground truth.

    Args:
        root: the folder with leftImg8bit and gtFine.
        split: "train" or "val".
        task: see `TrainingSet`.
        labels: the classes to learn, by Cityscapes' ids and names; None for all of them (for the
            instance task, things).
        invalid: has no effect; objects in maps of ids are always valid.

    Raises:
        FileNotFoundError: as `cityscapes_images`.
        ValueError: a class isn't one of Cityscapes'.
    """
    del invalid
    if labels is None and task == "instance":
        labels = things(CITYSCAPES)
    labels = chosen_labels(labels, CITYSCAPES, "Cityscapes")
    images = tuple(cityscapes_images(root, split, ["_instanceIds.png"]))
    indices = {label.id: index for index, label in enumerate(labels)}
    id_maps = IdMapDataset(
        title=f"{root}, {split}",
        images=tuple(IdMapImage(image.image, image.instance_ids) for image in images),
        labels=labels,
        task=task,
        classes={id_: indices.get(id_) for id_ in CLASS_IDS},
    )
    return CityscapesDataset(root, split, images, id_maps)


LAYOUT = DatasetLayout(
    title="Cityscapes",
    images={split: f"leftImg8bit/{split}" for split in ("train", "val", "test")},
    expected="leftImg8bit/{train,val}/<city>/ and gtFine/{train,val}/<city>/",
    open=cityscapes_dataset,
)
