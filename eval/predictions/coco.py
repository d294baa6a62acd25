"""Predictions for COCO, or a user's data in its format, in files of COCO's formats."""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, CocoImage
from m2f_jax.datasets.coco_format.lists import check_categories
from m2f_jax.datasets.coco_format.values import shown
from m2f_jax.files import read_json
from m2f_jax.sizes import Size

from .coco_columns import Fields
from .coco_results import CocoResults
from .coco_semantic import CategoryMaps, CategoryMasks
from .files import PredictionFiles
from .image_names import IMAGES_FILE, ImageNames, ListedImages
from .panoptic import PanopticFiles, panoptic_json

RESULTS_FILE = "predictions.json"
CATEGORIES_FILE = "categories.json"  # what m2f predict writes beside it


def find_coco_predictions(
    path: Path,
    task: Task,
    items: Sequence[CocoImage],
    dataset: CocoDataset,
    fields: Fields | None = None,
) -> PredictionFiles:
    """Finds the predictions at a path, and checks all but their pixels.

    Args:
        path: a JSON file in COCO's format for results, or the folder it is in: predictions.json.
            The PNG files of panoptic predictions are in a folder of its name, as COCO has it, or
            in "maps" beside it. For the semantic task, such a JSON file, a folder that has one, or
            a folder of PNGs with category ids.
        task: what is predicted.
        items: the images to score.
        dataset: all images. Entries name them by id, or by the name of the file as text; what
            `m2f predict` wrote, by its own list of images.
        fields: of the instance task, what `read_fields` returned, if the file was read before.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or isn't as its format has it; it is named.
    """
    ids = {label.id for label in dataset.categories}

    def check_used(used: Collection[int]):
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

        return PanopticFiles.find(file, items, name_of, size_of, check_used)
    file = results_file(path)
    if task == "semantic" and path.is_dir() and not file.is_file():
        return CategoryMaps.find(path, items, dataset)
    if not file.is_file():
        raise FileNotFoundError(f"{file} is missing; expected a file of COCO results")
    names = names_beside(file, dataset)
    if task == "semantic":
        return CategoryMasks.find(file, items, names, dataset.categories)
    return CocoResults.find(file, items, names, size_of, lambda used, _: check_used(used), fields)


def results_file(path: Path) -> Path:
    """Returns the JSON file of predictions at a path."""
    return path if path.suffix == ".json" else path / RESULTS_FILE


def size_of(item: CocoImage) -> Size:
    """Returns height and width of an image, as the annotations have them."""
    return item.size


def names_beside(file: Path, dataset: CocoDataset) -> Callable[[int | str], str | None]:
    """Returns how to understand image ids: by images.json of `m2f predict` beside the file.

    Raises:
        ValueError: that list can't be used, or categories.json beside it has other ids for the
            names of the data set's categories.
    """
    listed = file.with_name(IMAGES_FILE)
    if file.name == RESULTS_FILE and listed.is_file():
        if (categories := file.with_name(CATEGORIES_FILE)).is_file():
            check_same_ids(categories, dataset)
        return ListedImages(listed, dataset.images).name_of
    return ImageNames(dataset.images).name_of


def check_same_ids(file: Path, dataset: CocoDataset):
    """Refuses predictions whose category ids mean other names than those of a data set.

    Args:
        file: categories.json of `m2f predict`.
        dataset: the ground truth.

    Raises:
        ValueError: the file is no list of categories, or an id has another name there.
    """
    entries = read_json(file)
    if not isinstance(entries, list):
        raise ValueError(f"{file} holds {shown(entries)}, not a list of categories")
    theirs = check_categories(entries, str(file))
    ours, by_name = (
        {label.id: label.name for label in dataset.categories},
        {label.name: label.id for label in dataset.categories},
    )
    for label in theirs:
        name, id_ = ours.get(label.id, label.name), by_name.get(label.name, label.id)
        if name != label.name or id_ != label.id:
            other = f"{name!r:.60} has that id" if name != label.name else f"its id is {id_}"
            raise ValueError(
                f"{file}: the model's {label.name!r:.60} has the id {label.id}, but in "
                f"{dataset.annotations} {other}; score the model itself with --model, which goes "
                "by names, or predict again with --labels"
            )
