"""Predictions for Cityscapes in files, in the official scripts' formats or as COCO results."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Integer

from m2f_jax.config import Task
from m2f_jax.datasets.published.cityscapes import CityscapesImage
from m2f_jax.images import image_size, read_ids
from m2f_jax.images.opening import open_image
from m2f_jax.images.png_pixels import mask_rows, stored
from m2f_jax.labels import CITYSCAPES
from m2f_jax.masks.rle import Encoding, encode_rle, encode_rows
from m2f_jax.sizes import Size

from ..metrics.cityscapes.ids import CITYSCAPES_CLASSES, TRAIN_IDS_MESSAGE
from ..metrics.cityscapes.image_tables import check_predictions
from .coco_results import CocoResults
from .files import InstancePrediction, PredictionFiles
from .finding import check_png, one_file_each, path_within
from .panoptic import PanopticFiles


def find_predictions(
    path: Path, task: Task, items: Sequence[CityscapesImage], known: Collection[str]
) -> PredictionFiles:
    """Finds the predictions at a path, and checks all but their pixels.

    Args:
        path: a folder in the official format of the task, or what `m2f predict` wrote; for
            instances and panoptic segmentations also their JSON file.
        task: what is predicted.
        items: the images to score.
        known: the names of all images of the split.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged or isn't as its format has it; it is named.
    """

    def name_of(image_id: int | str) -> str | None:
        name = str(image_id).split("/")[-1].removesuffix("_leftImg8bit")
        return name if name in known else None

    if task == "semantic":
        return LabelMaps.find(path, items, known)
    if task == "panoptic":
        return PanopticFiles.find(path, items, name_of, size_of, check_categories)
    inside = path / "predictions.json"
    if path.suffix == ".json" or inside.is_file():
        file = inside if inside.is_file() else path
        return CocoResults.find(file, items, name_of, size_of, check_instances)
    return OfficialResults.find(path, items, known)


def size_of(item: CityscapesImage) -> Size:
    """Returns height and width of an image, as its ground truth has them."""
    return image_size(item.instance_ids, upright=False)


def check_instances(labels: Sequence[int], scores: Sequence[float]):
    """Raises a ValueError if these can't be label ids and scores of one image's instances."""
    check_predictions(np.array(labels), np.array(scores), len(labels))


def check_categories(used: Collection[int]):
    """Refuses category ids of a whole panoptic file.

    Raises:
        ValueError: some aren't those of evaluated classes.
    """
    unknown = set(used) - {label.id for label in CITYSCAPES}
    if unknown and set(used) <= set(range(len(CITYSCAPES))):
        raise ValueError(f"the category ids are {sorted(used)}: {TRAIN_IDS_MESSAGE}")
    if unknown:
        raise ValueError(
            f"the category ids {sorted(unknown, key=str)} aren't evaluated; a category id is the "
            "label id of a class, such as 26 for cars"
        )


@dataclass(frozen=True, kw_only=True)
class Line:
    """What a text file says of one instance."""

    mask: Path
    label: int
    score: float


@dataclass(frozen=True)
class OfficialResults:
    """A folder with one text file per image, which names mask files, labels and scores.

    Attributes:
        files: the text file of each image, by the image's name.
        lines: what it says.
    """

    files: dict[str, Path]
    lines: dict[str, list[Line]]

    @classmethod
    def find(
        cls, folder: Path, items: Sequence[CityscapesImage], known: Collection[str]
    ) -> "OfficialResults":
        """Reads the text files of all images, and checks the mask files.

        Raises:
            FileNotFoundError: there is no folder, an image has no text file, or a mask is missing.
            ValueError: an image has several, a line isn't as the format has it, or a mask is
                damaged or has another size; file and line are named.
        """
        files = one_file_each(folder, ".txt", items, known)
        lines = {}
        for item in items:
            path, size = files[item.name], size_of(item)
            lines[item.name] = found = read_lines(path, folder)
            try:
                check_instances([line.label for line in found], [line.score for line in found])
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
            for line in found:
                try:
                    check_png(line.mask, size)
                except FileNotFoundError as error:
                    raise FileNotFoundError(f"{path}: {error}") from error
        return cls(files, lines)

    def path(self, item: CityscapesImage) -> Path:
        """Returns the text file of an image."""
        return self.files[item.name]

    def read(self, item: CityscapesImage) -> InstancePrediction:
        """Returns one image's instances, whose masks are read when they are looked at."""
        lines = self.lines[item.name]
        return InstancePrediction(
            MaskFiles([line.mask for line in lines]),
            np.array([line.label for line in lines], int),
            np.array([line.score for line in lines], float),
        )


def read_lines(path: Path, root: Path) -> list[Line]:
    """Reads what a text file lists: "mask.png labelId score", with masks relative to it.

    As in the official script, a mask that is listed twice counts once, with the later line. A byte
    order mark and blank lines say nothing.

    Raises:
        ValueError: a line isn't as the format has it, or a mask isn't below `root`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} isn't text in UTF-8 ({error})") from error
    found = [
        read_line(line, path, root, f"{path}, line {number}")
        for number, line in enumerate(text.split("\n"), start=1)
        if line.strip()
    ]
    return list({line.mask: line for line in found}.values())


def read_line(text: str, path: Path, root: Path, where: str) -> Line:
    """Reads one line of a text file; a ValueError begins with `where`."""
    parts = text.split(" ")
    if len(parts) != 3:
        raise ValueError(
            f'{where}: expected "mask.png labelId score" with single blanks, such as '
            f'"mask.png 24 0.9" for a person, not {text!r:.200}'
        )
    name, label, score = parts
    line = Line(
        mask=path_within(path.parent, name, where, root),
        label=label_id(label, where),
        score=number(score, f"{where}: the score"),
    )
    if not math.isfinite(line.score):
        raise ValueError(f"{where}: the score is {score:.80}, not a finite number; drop this mask")
    return line


def label_id(text: str, where: str) -> int:
    """Reads the label id in a line; a ValueError begins with `where`."""
    names = [row.name for row in CITYSCAPES_CLASSES]
    if text in names:
        raise ValueError(
            f"{where}: {text!r} is the name of a class; write its label id, {names.index(text)}"
        )
    value = number(text, f"{where}: the label id")
    if not value.is_integer():
        raise ValueError(f"{where}: the label id is {text:.80}, not a whole number such as 24")
    return int(value)


def number(text: str, where: str) -> float:
    """Reads a number; a ValueError begins with `where`."""
    try:
        return float(text)
    except ValueError as error:
        raise ValueError(f"{where} is {text!r:.80}, not a number") from error


@dataclass(frozen=True)
class MaskFiles(Sequence[Encoding]):
    """Masks in files; each use of one reads it, and a ValueError names a file that can't be."""

    paths: Sequence[Path]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return MaskFiles(self.paths[index])
        return read_mask(self.paths[index])


def read_mask(path: Path) -> Encoding:
    """Reads a mask as run lengths: whatever isn't black when turned into 8-bit grey."""
    with open_image(path) as image:
        if (found := mask_rows(image)) is not None:
            return encode_rows(found.rows, found.top, image.height)
        return encode_rle(np.asarray(stored(image).convert("L")) != 0)


@dataclass(frozen=True)
class LabelMaps:
    """A folder with one PNG file of label ids per image."""

    files: dict[str, Path]

    @classmethod
    def find(
        cls, folder: Path, items: Sequence[CityscapesImage], known: Collection[str]
    ) -> "LabelMaps":
        """Finds the files of all images.

        Raises:
            FileNotFoundError: there is no folder, or an image has no file.
            ValueError: an image has several, or a file is damaged or has another size.
        """
        files = one_file_each(folder, ".png", items, known)
        for item in items:
            check_png(files[item.name], size_of(item))
        return cls(files)

    def path(self, item: CityscapesImage) -> Path:
        """Returns the file of an image."""
        return self.files[item.name]

    def read(self, item: CityscapesImage) -> Integer[np.ndarray, "H W"]:
        """Reads one image's label ids; a ValueError names a file that isn't a map of ids."""
        return read_ids(self.files[item.name], "grey")
