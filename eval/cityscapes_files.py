"""Predictions of Cityscapes' instances in files: the official text and PNG, or COCO results."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from m2f_jax.datasets.cityscapes import CityscapesImage

Masks = np.ndarray | list[dict[str, Any]]


@dataclass(frozen=True, eq=False)
class Predictions:
    """One image's predictions: bool masks or RLEs, Cityscapes label ids, scores."""

    masks: Masks
    labels: np.ndarray
    scores: np.ndarray


@dataclass(frozen=True)
class OfficialResults:
    """A folder with one text file per image, which names mask files, labels and scores.

    Attributes:
        files: the text file of each image, by the image's name.
        root: the folder.
    """

    files: dict[str, Path]
    root: Path

    @classmethod
    def find(cls, folder: Path, items: Sequence[CityscapesImage]) -> "OfficialResults":
        """The text files of all images.

        Raises:
            FileNotFoundError: there is no folder, or an image has no text file.
            ValueError: an image has several.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing; expected a folder of predictions")
        files: dict[str, Path] = {}
        names = {item.name for item in items}
        for path in sorted(folder.rglob("*.txt")):
            name = "_".join(path.stem.split("_")[:3])
            if name not in names:
                continue
            if name in files:
                raise ValueError(f"{name} has two files of predictions, {files[name]} and {path}")
            files[name] = path
        missing = [item.name for item in items if item.name not in files]
        if missing:
            raise FileNotFoundError(
                f"{folder} has no {missing[0]}*.txt, and lacks {len(missing)} of {len(items)} "
                "images in all; an image without predictions needs an empty file"
            )
        return cls(files, folder)

    def read(self, item: CityscapesImage) -> Predictions:
        """One image's predictions.

        Raises:
            ValueError: a line or a mask file isn't as the format has it; file and line are named.
        """
        path = self.files[item.name]
        # As in the official script, a mask that is listed twice counts once, with the later line.
        lines: dict[Path, tuple[int, float]] = {}
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            where = f"{path}, line {number}"
            parts = line.split(" ")
            if len(parts) != 3:
                raise ValueError(
                    f'{where}: expected "mask.png labelId score" with single blanks, not {line!r}'
                )
            if PurePosixPath(parts[0]).is_absolute():
                raise ValueError(f"{where}: the mask's path must be relative to the text file")
            mask = (path.parent / parts[0]).resolve()
            if not mask.is_relative_to(self.root.resolve()):
                raise ValueError(f"{where}: {parts[0]} leads out of {self.root}")
            try:
                lines[mask] = int(float(parts[1])), float(parts[2])
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
        masks = [read_mask(mask, path) for mask in lines]
        shapes = {mask.shape for mask in masks}
        if len(shapes) > 1:
            raise ValueError(f"{path}: its masks have several sizes, {sorted(shapes)}")
        return Predictions(
            np.stack(masks) if masks else [],
            np.array([label for label, _ in lines.values()], int),
            np.array([score for _, score in lines.values()], float),
        )


def read_mask(path: Path, listed_in: Path) -> np.ndarray:
    """A mask as bool [height, width]: whatever isn't black when turned into 8-bit grey."""
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("L")) != 0
    except FileNotFoundError as error:
        raise ValueError(f"{listed_in} lists {path}, which is missing") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} can't be read as a mask ({error})") from error


@dataclass(frozen=True)
class CocoResults:
    """The predictions.json that `m2f predict` writes; ids of categories are label ids."""

    entries: dict[str, list[dict[str, Any]]]

    @classmethod
    def find(cls, path: Path, items: Sequence[CityscapesImage]) -> "CocoResults":
        """The entries by image.

        Raises:
            ValueError: the file isn't a list of COCO results, or speaks of other images.
        """
        try:
            results = json.loads(path.read_text())
            entries: dict[str, list[dict[str, Any]]] = {item.name: [] for item in items}
            for i, result in enumerate(results):
                name = str(result["image_id"]).split("/")[-1].removesuffix("_leftImg8bit")
                if name not in entries:
                    raise ValueError(f"entry {i} is about {name}, which isn't in the ground truth")
                if not {"category_id", "segmentation", "score"} <= set(result):
                    raise ValueError(f"entry {i} lacks category_id, segmentation or score")
                entries[name].append(result)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} isn't a list of COCO results: {error}") from error
        return cls(entries)

    def read(self, item: CityscapesImage) -> Predictions:
        """One image's predictions."""
        entries = self.entries[item.name]
        return Predictions(
            [entry["segmentation"] for entry in entries],
            np.array([entry["category_id"] for entry in entries], int),
            np.array([entry["score"] for entry in entries], float),
        )


def find_predictions(path: Path, items: Sequence[CityscapesImage]) -> OfficialResults | CocoResults:
    """Predictions in a JSON file, in a folder with predictions.json, or in the official form."""
    inside = path / "predictions.json"
    if path.suffix == ".json" or inside.is_file():
        return CocoResults.find(inside if inside.is_file() else path, items)
    return OfficialResults.find(path, items)
