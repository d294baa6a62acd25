"""Writing of predictions in official formats: image by image, and a JSON file at the end.

Each image's entry is kept in a file of its own, so that an interrupted export can be completed.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.cityscapes import CityscapesDataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.files import read_json, write_json
from m2f_jax.inference.results import PanopticSegmentation
from m2f_jax.labels import Label

from ..metrics.panoptic.panoptic_quality import coco_categories


def export_folder(export: Path, dataset: Dataset | YtvisDataset, task: Task) -> Path:
    """Returns where predictions in the official format are written, image by image.

    Raises:
        FileExistsError: the folder holds what `m2f predict` wrote, whose list of images would then
            be about other ids.
    """
    if (export / "images.json").exists():
        raise FileExistsError(
            f"{export} holds what m2f predict wrote; choose another folder for --export"
        )
    if task == "panoptic" and isinstance(dataset, CityscapesDataset):
        return export / f"cityscapes_panoptic_{dataset.split}"  # as the official script has it
    if task == "panoptic" or (task == "instance" and dataset.rules != "cityscapes"):
        return export / "predictions"
    return export


def export_entry(folder: Path, name: str, entry: Any):
    """Keeps one image's entry of the JSON file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / f"{name}.json", entry, indent=None)


def export_panoptic(
    folder: Path,
    name: str,
    segmentation: PanopticSegmentation,
    labels: Sequence[Label],
    image_id: int | str,
):
    """Writes one image's segments as <name>_panoptic.png, and keeps their entry.

    Args:
        folder: of the PNG files.
        name: of the image.
        segmentation: its segments.
        labels: the classes, with the ids that the data set has for them.
        image_id: the image's id in the data set.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file_name = f"{name}_panoptic.png"
    Image.fromarray(segmentation.to_rgb()).save(folder / file_name)
    export_entry(folder, name, segmentation.to_coco(labels, image_id, file_name))


def entries_of(folder: Path, names: Sequence[str]) -> Iterator[Any]:
    """Yields the entries that were kept.

    Raises:
        FileNotFoundError: an image's entry was exported before and is gone.
    """
    for name in names:
        path = folder / f"{name}.json"
        try:
            yield read_json(path)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{path} was exported before and is gone; choose another folder for --export, "
                "which starts anew"
            ) from error


def finish_results(file: Path, folder: Path, names: Sequence[str]):
    """Writes the COCO results file of all images."""
    results = [result for entry in entries_of(folder, names) for result in entry]
    write_json(file, results, indent=None)


def finish_panoptic(file: Path, folder: Path, names: Sequence[str], categories: Sequence[Label]):
    """Writes the COCO panoptic file of all images."""
    entries = list(entries_of(folder, names))
    images = [{"id": entry["image_id"], "file_name": entry["file_name"]} for entry in entries]
    content = {
        "images": images,
        "annotations": entries,
        "categories": coco_categories(categories),
    }
    write_json(file, content, indent=None)


def finish_export(folder: Path, dataset: Dataset | YtvisDataset, task: Task, count: int):
    """Writes the JSON file of all images where the format has one.

    Raises:
        FileNotFoundError: an image's entry was exported before and is gone.
    """
    file, names = folder.with_name(f"{folder.name}.json"), [x.name for x in dataset.images[:count]]
    if task == "panoptic":
        finish_panoptic(file, folder, names, dataset.categories)
    elif task == "instance" and dataset.rules != "cityscapes":
        finish_results(file, folder, names)
