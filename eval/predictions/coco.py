"""Predictions for COCO, or a user's data in its format, in files of COCO's formats."""

import math
from collections.abc import Collection, Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, CocoImage
from m2f_jax.structures import Size

from .files import CocoResults, PredictionFiles
from .panoptic import PanopticFiles


def find_coco_predictions(
    path: Path, task: Task, items: Sequence[CocoImage], dataset: CocoDataset
) -> PredictionFiles:
    """The predictions at a path, all of them there and checked but for their pixels.

    Args:
        path: a JSON file in COCO's format for results, or the folder it is in: predictions.json.
            The PNG files of panoptic predictions are in a folder of its name, as COCO has it, or
            in "maps" beside it.
        task: what is predicted.
        items: the images to score.
        dataset: all images. Entries name them by id, or by the name of the file without its
            ending.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or isn't as its format has it; it is named.
    """
    names = {item.image.stem: item.name for item in dataset.images}
    names |= {str(item.id): item.name for item in dataset.images}
    ids = {label.id for label in dataset.categories}

    def size_of(item: CocoImage) -> Size:
        return item.size

    def name_of(image_id: int | str) -> str | None:
        return names.get(str(image_id))

    def check_categories(used: Collection[int]):
        if unknown := set(used) - ids:
            raise ValueError(
                f"the category ids {sorted(unknown, key=str)[:10]} aren't among those of the "
                "annotations; class indices have to be turned into ids"
            )

    if task == "panoptic":
        return PanopticFiles.find(path, items, name_of, size_of, check_categories)

    def check(categories: Sequence[int], scores: Sequence[float]):
        check_categories(categories)
        if not all(map(math.isfinite, scores)):
            raise ValueError(
                f"some scores aren't finite: {[x for x in scores if not math.isfinite(x)][:5]}"
            )

    file = path if path.suffix == ".json" else path / "predictions.json"
    return CocoResults.find(file, items, name_of, size_of, check)
