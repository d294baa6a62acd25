"""The files of a Cityscapes tree, leftImg8bit/<split>/<city>/ and gtFine/<split>/<city>/.

They can be listed, or read as examples to train on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.id_maps import IdMapExamples
from m2f_jax.labels import CITYSCAPES, Label

IMAGE_ENDING = "_leftImg8bit.png"
CLASS_IDS = range(34)  # all that occur in the ground truth; those of CITYSCAPES count


@dataclass(frozen=True)
class CityscapesImage:
    """One image and its ground truth; `name` is <city>_<sequence>_<frame>."""

    name: str
    image: Path
    ground_truth: Path  # without its ending

    def ground_truth_file(self, ending: str) -> Path:
        """The ground truth file with this ending, such as "_instanceIds.png"."""
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
    """The images of a split, in order of their names.

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
            raise FileNotFoundError(
                f"{folder} is missing; {root} should hold leftImg8bit/{split}/<city>/ and "
                f"gtFine/{split}/<city>/ as Cityscapes is unpacked"
            )
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


def cityscapes_examples(
    root: Path, split: str, labels: Sequence[Label], task: Task
) -> IdMapExamples:
    """The images of a split with their segments, read from *_gtFine_instanceIds.png.

    The authors train instances on the polygons of *_gtFine_polygons.json, and semantic segmentation
    on *_gtFine_labelTrainIds.png; these PNGs hold the same regions. Groups and the classes that
    don't count are left out.

    Args:
        root: the folder with leftImg8bit and gtFine.
        split: "train" or "val".
        labels: the classes to learn, by Cityscapes' ids and names.
        task: see `Examples`.

    Raises:
        FileNotFoundError: as `cityscapes_images`.
        ValueError: a class isn't one of Cityscapes'.
    """
    known = {(label.id, label.name) for label in CITYSCAPES}
    foreign = [label.name for label in labels if (label.id, label.name) not in known]
    if foreign:
        raise ValueError(
            f"{len(foreign)} of the {len(labels)} classes to learn aren't Cityscapes': "
            f"{', '.join(foreign[:5])}"
        )
    images = cityscapes_images(root, split, ["_instanceIds.png"])
    indices = {label.id: index for index, label in enumerate(labels)}
    return IdMapExamples(
        files=tuple((image.image, image.instance_ids) for image in images),
        labels=tuple(labels),
        task=task,
        classes={id_: indices.get(id_) for id_ in CLASS_IDS},
    )
