"""Predictions for COCO, or a user's data in its format, in files of COCO's formats."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, CocoImage
from m2f_jax.structures import Size

from .coco_results import CocoResults
from .coco_semantic import CategoryMaps, CategoryMasks
from .files import PredictionFiles
from .image_names import IMAGES_FILE, ImageNames, ListedImages
from .panoptic import PanopticFiles, panoptic_json

RESULTS_FILE = "predictions.json"


def find_coco_predictions(
    path: Path, task: Task, items: Sequence[CocoImage], dataset: CocoDataset
) -> PredictionFiles:
    """The predictions at a path, all of them there and checked but for their pixels.

    Args:
        path: a JSON file in COCO's format for results, or the folder it is in: predictions.json.
            The PNG files of panoptic predictions are in a folder of its name, as COCO has it, or
            in "maps" beside it. For the semantic task, such a JSON file, a folder that has one, or
            a folder of PNGs with category ids.
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
    if task == "semantic" and path.is_dir() and not file.is_file():
        return CategoryMaps.find(path, items, dataset)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; expected a file of COCO results")
    names = names_beside(file, dataset)
    if task == "semantic":
        return CategoryMasks.find(file, items, names, dataset.categories)
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
