"""Results in COCO's format: a list of masks, each with its image, category and mostly a score."""

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from m2f_jax.datasets.coco_format.faults import EntryError, Faults
from m2f_jax.datasets.coco_format.lists import MAX_CATEGORY
from m2f_jax.datasets.coco_format.outlines import outline_counts, outline_of
from m2f_jax.datasets.coco_format.values import is_number, is_whole, shown
from m2f_jax.datasets.dataset import DatasetImage
from m2f_jax.files import read_json, without_collection
from m2f_jax.masks.rle import SoundMasks, check_counts
from m2f_jax.sizes import Size

from .coco_columns import (
    KEYS,
    LARGEST,
    Columns,
    Fields,
    Results,
    columns_of,
    fields_of,
    read_fields,
)
from .files import InstancePrediction


@dataclass(frozen=True)
class CocoResults:
    """A COCO results file of instances.

    Attributes:
        file: the file.
        predictions: of each image, by its name.
    """

    file: Path
    predictions: Mapping[str, InstancePrediction]

    @classmethod
    def find(
        cls,
        file: Path,
        items: Sequence[Any],
        name_of: Callable[[Any], str | None],
        size: Callable[[Any], Size],
        check: Callable[[Sequence[Any], Sequence[Any]], None],
        fields: Fields | None = None,
    ) -> "CocoResults":
        """Reads and checks the file; an image without entries has no detections.

        Args:
            file: the file.
            items: the images to score.
            name_of: the name of the image of an id, None where the data set has no such image.
            size: the height and width of an image.
            check: refuses wrong category ids and scores of one image by a ValueError.
            fields: what `read_fields` returned, if the file was read before.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as `read_results`, or `check` refuses something.
        """
        results = read_results(file, items, name_of, size, scored=True, fields=fields)
        predictions = {}
        for item in items:
            _, labels, scores, counts = results[item.name]
            try:
                check(labels.tolist(), scores.tolist())
            except ValueError as error:
                raise ValueError(f"{file}, image {item.name}: {error}") from error
            masks = SoundMasks(counts, size(item))
            predictions[item.name] = InstancePrediction(masks, labels, scores)
        return cls(file, predictions)

    def path(self, item: DatasetImage) -> Path:
        """Returns the file."""
        del item
        return self.file

    def read(self, item: DatasetImage) -> InstancePrediction:
        """Returns one image's detections."""
        return self.predictions[item.name]


def read_results(
    file: Path,
    items: Sequence[Any],
    name_of: Callable[[Any], str | None],
    size: Callable[[Any], Size],
    *,
    scored: bool,
    fields: Fields | None = None,
) -> dict[str, Results]:
    """Reads and checks a file of results.

    Args:
        file: the file.
        items: the images to score.
        name_of: the name of the image of an id, None where the data set has no such image.
        size: the height and width of an image.
        scored: whether entries must have scores.
        fields: what `read_fields` returned, if the file was read before.

    Returns:
        The entries of each of the images, by its name, in the order of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a list of COCO results, or entries can't be used; the file and the
            places in it are named.
    """
    sizes = {item.name: size(item) for item in items}
    with without_collection():
        if fields is None and scored:
            fields = read_fields(file)
        columns = None if fields is None else columns_of(fields, name_of, sizes)
        if columns is None:
            columns = columns_of_json(file, name_of, sizes, scored)
    return by_image(columns, sizes)


def by_image(columns: Columns, names: Iterable[str]) -> dict[str, Results]:
    """Returns the entries of each image."""
    places = {name: place for place, name in enumerate(names)}
    owners = np.array(list(map(places.__getitem__, columns.names)), int)
    order = np.argsort(owners, kind="stable")
    ends = np.cumsum(np.bincount(owners, minlength=len(places)))
    numbers, labels, scores, counts = columns.results
    arrays = [np.split(column[order], ends)[:-1] for column in (numbers, labels, scores)]
    ordered = iter([counts[k] for k in order.tolist()])
    return {
        name: Results(k, label, score, list(itertools.islice(ordered, len(k))))
        for name, k, label, score in zip(places, *arrays, strict=True)
    }


def columns_of_json(
    file: Path,
    name_of: Callable[[Any], str | None],
    sizes: Mapping[str, Size],
    scored: bool,
) -> Columns:
    """Reads and checks any file of results.

    Raises:
        ValueError: as `read_results`.
    """
    entries = read_json(file)
    if not isinstance(entries, list):
        raise ValueError(f"{file} isn't a list of COCO results but holds {shown(entries)}")
    fields = fields_of(entries) if scored else None
    columns = None if fields is None else columns_of(fields, name_of, sizes)
    if columns is None:
        columns = columns_one_by_one(file, entries, name_of, sizes, scored)
    return columns


def columns_one_by_one(
    file: Path,
    entries: Sequence[Any],
    name_of: Callable[[Any], str | None],
    sizes: Mapping[str, Size],
    scored: bool,
) -> Columns:
    """Returns entries of any kind.

    Raises:
        ValueError: some can't be used; all are named.
    """
    faults = Faults(str(file), "write the results anew")
    names: list[str] = []
    rows: list[tuple[int, int, float, bytes]] = []
    for number, entry in enumerate(entries):
        try:
            name = image_of(entry, name_of, KEYS[: 3 + scored])
            if name in sizes:
                rows.append((number, *row_of(entry, sizes[name])))
                names.append(name)
        except EntryError as error:
            faults.add(f"entry {number}", error)
    numbers, labels, scores = ([row[k] for row in rows] for k in range(3))
    counts, broken = check_counts([row[3] for row in rows], [sizes[name] for name in names])
    for index, fault in broken.items():
        faults.add(f"entry {numbers[index]}", EntryError("broken run lengths", fault))
    faults.refuse()
    arrays = np.array(numbers, int), np.array(labels, int), np.array(scores, float)
    return Columns(names, Results(*arrays, counts))


def image_of(entry: Any, name_of: Callable[[Any], str | None], keys: Sequence[str]) -> str:
    """Returns the name of the image that an entry is about, which has these keys.

    Raises:
        EntryError: it can't be used.
    """
    check_keys(entry, keys)
    image_id = entry["image_id"]
    if not is_whole(image_id) and not isinstance(image_id, str):
        raise EntryError("image_id", f"image_id is {shown(image_id)}; it must be an image's id")
    try:
        name = name_of(image_id)
    except ValueError as error:
        raise EntryError("unknown image", str(error)) from None
    if name is None:
        raise EntryError(
            "unknown image", f"it is about image {image_id!s:.100}, which isn't in the ground truth"
        )
    return name


def check_keys(entry: Any, keys: Sequence[str]):
    """Refuses what isn't an object with these keys.

    Raises:
        EntryError: it isn't.
    """
    if not isinstance(entry, Mapping):
        raise EntryError("no object", f"it is {shown(entry)}, not an object")
    if missing := set(keys) - set(entry):
        boxes = "; boxes alone can't be scored as masks" if "bbox" in entry else ""
        raise EntryError("incomplete", f"it has no {', '.join(sorted(missing))}{boxes}")


def score_of(entry: Mapping[str, Any]) -> float:
    """Returns the score of an entry; NaN if it has none.

    Raises:
        EntryError: it isn't a finite number.
    """
    score = entry.get("score", math.nan)
    if "score" in entry and not (is_number(score) and abs(score) <= LARGEST):
        raise EntryError("score", f"score is {shown(score)}; it must be a finite number")
    return float(score)


def row_of(entry: Mapping[str, Any], size: Size) -> tuple[int, float, bytes]:
    """Returns category, score and counts of an entry about an image of this size.

    The counts aren't checked yet.

    Raises:
        EntryError: it can't be used.
    """
    category_id = entry["category_id"]
    if not is_whole(category_id) or abs(category_id) > MAX_CATEGORY:
        raise EntryError(
            "category_id", f"category_id is {shown(category_id)}; it must be a category's id"
        )
    score = score_of(entry)
    counts = outline_counts(outline_of(entry["segmentation"], size), size)
    return int(category_id), score, counts
