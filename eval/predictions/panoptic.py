"""Panoptic predictions in files: COCO's JSON file, and a PNG file of segment ids for each image."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2f_jax.datasets.dataset import DatasetImage
from m2f_jax.files import read_json
from m2f_jax.images import read_ids
from m2f_jax.plain import from_plain
from m2f_jax.sizes import Size

from .files import PanopticPrediction
from .finding import check_png, path_within


@dataclass(frozen=True, kw_only=True)
class PanopticEntry:
    """What the JSON file says of one image.

    Attributes:
        image_id: the id or name of the image.
        file_name: the PNG file, relative to the folder of all of them.
        segments: the ids and category ids of the segments, as `PanopticQuality.add` takes them.
    """

    image_id: int | str
    file_name: str
    segments: list[dict[str, int]]


@dataclass(frozen=True)
class PanopticFiles:
    """A COCO panoptic file and its PNG files.

    Attributes:
        file: the JSON file.
        maps: the folder of the PNG files.
        entries: the file's entry for each image, by its name.
    """

    file: Path
    maps: Path
    entries: dict[str, PanopticEntry]

    @classmethod
    def find(
        cls,
        path: Path,
        items: Sequence[Any],
        name_of: Callable[[Any], str | None],
        size: Callable[[Any], Size],
        check: Callable[[Collection[Any]], None],
    ) -> "PanopticFiles":
        """Reads and checks the JSON file, and checks that the PNG files are there and whole.

        Args:
            path: the JSON file, or the folder that it is in.
            items: the images to score.
            name_of: the name of the image of an id, None where the data set has no such image.
            size: the height and width of an image.
            check: refuses wrong category ids, those of the whole file, by a ValueError.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: the file isn't a COCO panoptic file, has two entries for an image, speaks of
                other images or categories, or a PNG file is damaged or of another size.
        """
        file = panoptic_json(path)
        entries: dict[str, PanopticEntry] = {}
        for i, entry in enumerate(read_entries(file)):
            name = name_of(entry.image_id)
            if name is None:
                raise ValueError(
                    f"{file}: entry {i} is about image {entry.image_id!r:.80}, which isn't in the "
                    "ground truth"
                )
            if name in entries:
                raise ValueError(f"{file} has two entries for image {entry.image_id!r:.80}")
            entries[name] = entry
        missing = [item.name for item in items if item.name not in entries]
        if missing:
            raise ValueError(
                f"{file} has no entry for {missing[0]}, and lacks {len(missing)} of {len(items)} "
                "images in all; an image without segments needs an entry with an empty list"
            )
        segments = [segment for entry in entries.values() for segment in entry.segments]
        try:
            check({segment["category_id"] for segment in segments})
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        maps = file.with_name(file.name.removesuffix(".json"))
        if items:
            first = entries[items[0].name].file_name
            places = maps, file.parent / "maps", file.parent
            maps = next((place for place in places if os.path.isfile(place / first)), maps)
        found = cls(file, maps, entries)
        for item in items:
            check_png(found.path(item), size(item))
        return found

    def path(self, item: DatasetImage) -> Path:
        """Returns the PNG file of an image."""
        entry = self.entries[item.name]
        return path_within(self.maps, entry.file_name, f"{self.file}: image {entry.image_id!r:.80}")

    def read(self, item: DatasetImage) -> PanopticPrediction:
        """Reads one image's segments."""
        segment_map = read_ids(self.path(item), "rgb")
        return PanopticPrediction(segment_map, self.entries[item.name].segments)


def panoptic_json(path: Path) -> Path:
    """Finds the JSON file at a path, or in a folder: predictions.json, or the only one.

    Raises:
        FileNotFoundError: there is none.
        ValueError: there are several.
    """
    if path.suffix == ".json":
        return path
    if not path.is_dir():
        raise FileNotFoundError(f"{path} is missing; expected a folder of predictions, or a .json")
    files = [path / "predictions.json"]
    if not files[0].is_file():
        files = sorted(path.glob("*.json"))
    if not files:
        raise FileNotFoundError(f"{path} holds no .json file of panoptic predictions")
    if len(files) > 1:
        raise ValueError(f"{path} holds several .json files, {files[0]} and others; name one")
    return files[0]


def read_entries(file: Path) -> list[PanopticEntry]:
    """Reads the entries of a panoptic file; each is complete and of the right types.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a COCO panoptic file; the message names the entry and the field.
    """
    content = read_json(file)
    if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
        raise ValueError(f'{file} isn\'t a COCO panoptic file: it has no list "annotations"')
    return [entry_of(value, f"{file}: entry {i}") for i, value in enumerate(content["annotations"])]


def entry_of(value: Any, where: str) -> PanopticEntry:
    """Reads an entry of a panoptic file; a ValueError begins with `where`."""
    check_keys(value, ("image_id", "file_name", "segments_info"), where)
    image_id, segments = value["image_id"], value["segments_info"]
    if type(image_id) not in (int, str):
        raise ValueError(f"{where}: image_id has the value {image_id!r:.80}; expected int or str")
    if not isinstance(segments, list):
        raise ValueError(f"{where}: segments_info needs a list, not {segments!r:.80}")
    return PanopticEntry(
        image_id=image_id,
        file_name=from_plain(str, value["file_name"], f"{where}: file_name"),
        segments=[segment_of(x, f"{where}: segments_info[{k}]") for k, x in enumerate(segments)],
    )


def segment_of(value: Any, where: str) -> dict[str, int]:
    """Reads id and category id of a segment; a ValueError begins with `where`."""
    keys = ("id", "category_id")
    check_keys(value, keys, where)
    return {key: from_plain(int, value[key], f"{where}.{key}") for key in keys}


def check_keys(entry: Any, keys: Sequence[str], where: str):
    """Raises a ValueError if what is at a place in a JSON file isn't an object with these keys."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"{where} needs an object with {', '.join(keys)}, not {entry!r:.80}")
    if missing := set(keys) - set(entry):
        raise ValueError(f"{where} has no {', '.join(sorted(missing))}")
