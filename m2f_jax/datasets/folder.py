"""A folder of the user's own images, with their segments as PNGs or as a COCO file.

With PNGs::

    FOLDER/labels.json        [{"id": 1, "name": "cat", "is_thing": true}, ...]
    FOLDER/images/NAME.jpg    or .jpeg, .png
    FOLDER/ids/NAME.png       a map of ids of the same size

An id is 1000 x the class id + k for object k of a thing's class, the class id alone for stuff (and
for a group of things that can't be told apart), and 0 or 255 for nothing. Class ids are 1 to 999,
without 255. The PNG is grey, of 8 or 16 bits; ids above 65535 go into an RGB one, as red + 256
green + 65536 blue. The file labels.json may lie in FOLDER's parent, if several folders share it.

With COCO's format::

    FOLDER/annotations.json   of objects, or a panoptic file with its PNGs in FOLDER/annotations/
    FOLDER/images/...         the names in the file

or, as Roboflow exports it::

    FOLDER/_annotations.coco.json
    FOLDER/...                the names in the file
"""

from collections.abc import Sequence
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco import CocoDataset, coco_dataset
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import class_indices
from m2f_jax.datasets.id_maps import FIRST_OBJECT, IdMapDataset, image_pairs
from m2f_jax.files import read_json
from m2f_jax.labels import Label, things
from m2f_jax.plain import from_plain

NOTHING = (0, 255)
LABELS_FILE = "labels.json"
ANNOTATIONS_FILE = "annotations.json"
ROBOFLOW_FILE = "_annotations.coco.json"  # with the images beside it


def folder_dataset(
    folder: Path,
    task: Task,
    labels: Sequence[Label] | None = None,
    invalid: Invalid = "refuse",
) -> IdMapDataset | CocoDataset:
    """Opens a folder of images with their ground truth.

    Args:
        folder: laid out as this module says.
        task: see `TrainingSet`.
        labels: the classes to learn, by the names that the folder gives them; None for all of them
            (for the instance task, things), in order of their ids.
        invalid: what becomes of objects that can't be used, see `read_coco_file`.

    Raises:
        FileNotFoundError: the folder or a file isn't there.
        ValueError: a file is damaged or contradicts itself, or the classes don't agree.
    """
    exported = folder / ROBOFLOW_FILE
    if exported.is_file() and not (folder / "images").is_dir():
        return coco_dataset(exported, folder, task, labels, invalid=invalid)
    for needed in (folder, folder / "images"):
        if not needed.is_dir():
            raise FileNotFoundError(f"{needed} is missing; {expected(folder)}")
    annotations = folder / ANNOTATIONS_FILE
    ids = folder / "ids"
    if annotations.is_file() and ids.is_dir():
        raise ValueError(f"{folder} has both {ANNOTATIONS_FILE} and ids/; which is it? Remove one")
    if annotations.is_file():
        return coco_dataset(annotations, folder / "images", task, labels, invalid=invalid)
    if not ids.is_dir():
        raise FileNotFoundError(f"{folder} has no {ANNOTATIONS_FILE} or ids/; {expected(folder)}")

    source = next(
        (path for path in (folder / LABELS_FILE, folder.parent / LABELS_FILE) if path.is_file()),
        None,
    )
    if source is None:
        raise FileNotFoundError(f"{folder / LABELS_FILE} is missing; {expected(folder)}")
    known = read_folder_labels(source)
    wanted = things(known) if task == "instance" else known
    learned = wanted if labels is None else tuple(labels)
    indices = class_indices(learned, {label.name: label.id for label in known}, source)
    if extra := [label.name for label in wanted if label.id not in indices]:
        raise ValueError(
            f"{source} has {len(extra)} classes that the model lacks: {', '.join(extra[:5])}; give "
            "the model these classes"
        )
    return IdMapDataset(
        title=str(folder),
        images=image_pairs(folder / "images", ids),
        labels=learned,
        task=task,
        classes={
            **dict.fromkeys(NOTHING),
            **{label.id: indices.get(label.id) for label in known},
        },
    )


def expected(folder: Path) -> str:
    """Returns the expected layout of a folder, for messages."""
    return (
        f"expected {folder}/images/ with either {folder}/{ANNOTATIONS_FILE} (COCO), or "
        f"{folder}/ids/ and {folder}/{LABELS_FILE}; or {ROBOFLOW_FILE} beside the images"
    )


def read_folder_labels(path: Path) -> tuple[Label, ...]:
    """Returns the classes of a labels.json, in order of their ids.

    Raises:
        ValueError: an entry is incomplete, an id is impossible, or an id or a name comes twice.
    """
    labels = from_plain(tuple[Label, ...], read_json(path), str(path))
    if not labels:
        raise ValueError(f"{path} has no classes")
    for name in ("id", "name"):
        values = [getattr(label, name) for label in labels]
        if twice := [value for value in values if values.count(value) > 1]:
            raise ValueError(f"{path} has the {name} {twice[0]!r} twice")
    for label in labels:
        if not 0 < label.id < FIRST_OBJECT or label.id in NOTHING:
            raise ValueError(
                f"{path}: {label.name} has the id {label.id}; ids are 1 to {FIRST_OBJECT - 1}, "
                "without 255"
            )
    return tuple(sorted(labels, key=lambda label: label.id))
