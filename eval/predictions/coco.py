"""Predictions for COCO, or a user's data in its format, in files of COCO's formats."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int32

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, CocoImage
from m2f_jax.images import read_ids
from m2f_jax.labels import Label
from m2f_jax.structures import Size

from .checks import check_png
from .coco_results import CocoResults
from .files import PredictionFiles
from .image_names import IMAGES_FILE, ImageNames, ListedImages, one_of
from .panoptic import PanopticFiles, panoptic_json

RESULTS_FILE = "predictions.json"


def find_coco_predictions(
    path: Path, task: Task, items: Sequence[CocoImage], dataset: CocoDataset
) -> PredictionFiles:
    """The predictions at a path, all of them there and checked but for their pixels.

    Args:
        path: a JSON file in COCO's format for results, or the folder it is in: predictions.json.
            The PNG files of panoptic predictions are in a folder of its name, as COCO has it, or
            in "maps" beside it. For the semantic task, a folder of PNGs with category ids, or the
            folder that has them in "maps".
        task: what is predicted.
        items: the images to score.
        dataset: all images. Entries name them by id, or by the name of the file as text; what
            `m2f predict` wrote, by its own list of images.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or isn't as its format has it; it is named.
    """
    ids = {label.id for label in dataset.categories}

    def check_categories(used: Collection[int]):
        if unknown := set(used) - ids:
            raise ValueError(
                f"the category ids {sorted(unknown, key=str)[:10]} aren't among those of the "
                "annotations; class indices have to be turned into ids"
            )

    if task == "semantic":
        return CategoryMaps.find(path, items, dataset)
    if task == "panoptic":
        file = panoptic_json(path)
        names = names_beside(file, dataset)

        def name_of(image_id: int | str) -> str | None:
            try:
                return names(image_id)
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None

        return PanopticFiles.find(file, items, name_of, size_of, check_categories)
    file = path if path.suffix == ".json" else path / RESULTS_FILE
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; expected a file of COCO results")
    names = names_beside(file, dataset)
    return CocoResults.find(file, items, names, size_of, lambda used, _: check_categories(used))


def size_of(item: CocoImage) -> Size:
    """Height and width of an image, as the annotations have them."""
    return item.size


def names_beside(file: Path, dataset: CocoDataset) -> Callable[[int | str], str | None]:
    """How ids in a file of predictions are understood: by images.json of `m2f predict` beside it.

    Raises:
        ValueError: that list can't be used.
    """
    listed = file.with_name(IMAGES_FILE)
    if file.name == RESULTS_FILE and listed.is_file():
        return ListedImages(listed, dataset.images).name_of
    return ImageNames(dataset.images).name_of


@dataclass(frozen=True)
class CategoryMaps:
    """A folder with one PNG file of category ids per image.

    It has the name of the image's file, as `m2f predict` writes it, or is <id>_pred.png, as
    `m2f eval --export` does.

    Attributes:
        files: by the image's name.
        categories: the categories, in the order of the class indices.
    """

    files: dict[str, Path]
    categories: tuple[Label, ...]

    @classmethod
    def find(cls, path: Path, items: Sequence[CocoImage], dataset: CocoDataset) -> "CategoryMaps":
        """Finds and checks the files of all images.

        Raises:
            FileNotFoundError: there is no folder, or an image has no file.
            ValueError: an image has several, a file is about no image of the data set, or is
                damaged or of another size.
        """
        folder = path / "maps" if (path / "maps").is_dir() else path
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing; expected a folder of PNG files")
        names = ImageNames(dataset.images)
        exported = {f"{image.name}_pred": image.name for image in dataset.images}
        files: dict[str, Path] = {}
        for file in sorted(folder.rglob("*.png")):
            stem = file.relative_to(folder).as_posix().removesuffix(".png")
            try:
                name = exported.get(stem) or one_of(stem, names.with_file(stem))
            except ValueError as error:
                raise ValueError(f"{file}: {error}") from None
            if name is None:
                raise ValueError(f"{file} isn't about an image of the ground truth; leave it out")
            if name in files:
                raise ValueError(f"image {name} has two files, {files[name]} and {file}")
            files[name] = file
        if missing := [item for item in items if item.name not in files]:
            stem = Path(missing[0].file_name).with_suffix("")
            raise FileNotFoundError(
                f"{folder} has no {stem}.png, and lacks {len(missing)} of {len(items)} images"
            )
        for item in items:
            check_png(files[item.name], item.size)
        return cls(files, dataset.categories)

    def path(self, item: CocoImage) -> Path:
        """The file of an image."""
        return self.files[item.name]

    def read(self, item: CocoImage) -> Int32[np.ndarray, "H W"]:
        """Returns one image's class indices.

        Raises:
            ValueError: the file isn't a map of ids, or has ids that no category has.
        """
        ids = read_ids(self.files[item.name], "grey")
        known = np.array([label.id for label in self.categories])
        order = np.argsort(known)
        places = order[np.searchsorted(known, ids, sorter=order).clip(max=len(known) - 1)]
        if unknown := np.unique(ids[known[places] != ids])[:5].tolist():
            raise ValueError(
                f"{self.files[item.name]} has the ids {unknown}, which no category of the ground "
                "truth has; class indices have to be turned into ids"
            )
        return places.astype(np.int32)
