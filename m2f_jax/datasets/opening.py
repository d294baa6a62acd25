"""Opens a folder of data: that of a published data set, which it recognizes, or a user's."""

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.folder import ANNOTATIONS_FILE, ROBOFLOW_FILE, folder_dataset
from m2f_jax.datasets.published import ade20k, cityscapes, coco, coco_stuff, mapillary_vistas
from m2f_jax.datasets.published.layout import DatasetLayout
from m2f_jax.labels import Label

LAYOUTS = {
    "cityscapes": cityscapes.LAYOUT,
    "coco": coco.LAYOUT,
    "ade20k": ade20k.LAYOUT,
    "ade20k-full": ade20k.FULL_LAYOUT,
    "mapillary": mapillary_vistas.LAYOUT,
    "coco-stuff": coco_stuff.LAYOUT,
}
"""The published data sets, by the names of `m2f eval`."""


def layout_of(root: Path) -> DatasetLayout | None:
    """Returns the layout of a published data set's folder; None for any other folder."""
    if holds_own_data(root):
        return None
    return next((layout for layout in LAYOUTS.values() if layout.is_at(root)), None)


def holds_own_data(folder: Path) -> bool:
    """Returns whether a folder is in a user's own format, see `m2f_jax.datasets.folder`."""
    files = folder / ANNOTATIONS_FILE, folder / ROBOFLOW_FILE
    return any(file.is_file() for file in files) or (folder / "ids").is_dir()


def has_split(root: Path, split: str) -> bool:
    """Returns whether a folder has data of this split."""
    layout = layout_of(root)
    if layout is not None:
        return split in layout.images and (root / layout.images[split]).is_dir()
    return holds_own_data(root / split)


def open_dataset(
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
    layout: str | None = None,
) -> Dataset:
    """Opens a split of data in any form that `m2f train` accepts.

    Args:
        root: the folder of a published data set; or a folder with one of the user's own for each
            split, see `m2f_jax.datasets.folder`; or one of the user's own, as the split "train".
        split: "train" or "val".
        task: see `TrainingSet`.
        labels: the classes to learn; None for those of the data.
        invalid: what becomes of objects in COCO's format that can't be used, see `read_coco_file`.
        layout: a key of `LAYOUTS`; None to recognize the folder.

    Raises:
        FileNotFoundError: the folder isn't of this layout, or lacks the split or something else;
            the message says what is expected where.
        ValueError: the data don't fit the classes, or are damaged.
    """
    found = layout_of(root) if layout is None else LAYOUTS[layout]
    if found is not None:
        return open_published(found, root, split, task, labels, invalid)
    alone = split == "train" and not (root / split).is_dir()
    folder = root if alone else root / split
    own = (folder / "images").is_dir() or (folder / ROBOFLOW_FILE).is_file()
    if not own and (hint := inner_data(root, LAYOUTS.values())):
        raise FileNotFoundError(hint)
    return folder_dataset(folder, task, labels, invalid)


def open_published(
    layout: DatasetLayout,
    root: Path,
    split: str,
    task: Task,
    labels: Sequence[Label] | None,
    invalid: Invalid,
) -> Dataset:
    """Opens the folder of a published data set; see `open_dataset`."""
    if split not in layout.images:
        raise ValueError(f"{layout.title} has the splits {', '.join(layout.images)}, not {split}")
    images = root / layout.images[split]
    if not images.is_dir():
        hint = inner_data(root, [layout]) or expected(layout)
        raise FileNotFoundError(f"{images} is missing; {hint}")
    try:
        return layout.open(root, split, task, labels, invalid)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; {expected(layout)}") from error


def expected(layout: DatasetLayout) -> str:
    """Returns what the folder of a data set holds, for messages."""
    return f"{layout.title} is expected as {layout.expected}"


def inner_data(root: Path, layouts: Iterable[DatasetLayout]) -> str | None:
    """Returns a message that a folder within holds a published data set; None if none does."""
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    for folder, layout in itertools.product(folders, layouts):
        if layout.is_at(folder):
            return f"{root} holds {layout.title} in {folder.name}/; name that folder"
    return None
