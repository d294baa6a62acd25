"""The files of a Cityscapes tree: leftImg8bit/<split>/<city>/ and gtFine/<split>/<city>/."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

IMAGE_ENDING = "_leftImg8bit.png"


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
