"""Results in COCO's format: a list of masks, each with its image, category and mostly a score."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m2f_jax.datasets.coco_format.faults import EntryError, Faults
from m2f_jax.datasets.coco_format.lists import MAX_CATEGORY
from m2f_jax.datasets.coco_format.outlines import outline_counts, outline_of
from m2f_jax.datasets.coco_format.values import is_number, is_whole, shown
from m2f_jax.datasets.dataset import DatasetImage
from m2f_jax.files import read_json
from m2f_jax.rle import check_counts
from m2f_jax.structures import Size

from .files import InstancePrediction

LARGEST = 1e300  # scores beyond are no scores
KEYS = ("image_id", "category_id", "segmentation")


class Result(NamedTuple):
    """An entry of a results file."""

    number: int
    category_id: int
    score: float
    """NaN where results have none."""
    counts: bytes
    """Of the mask, compressed and checked."""


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
    ) -> "CocoResults":
        """Reads and checks the file; an image without entries has no detections.

        Args:
            file: the file.
            items: the images to score.
            name_of: the name of the image of an id, None where the data set has no such image.
            size: the height and width of an image.
            check: refuses wrong category ids and scores of one image by a ValueError.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as `read_results`, or `check` refuses something.
        """
        results = read_results(file, items, name_of, size, scored=True)
        predictions = {}
        for item in items:
            found, shape = results[item.name], list(size(item))
            labels, scores = [x.category_id for x in found], [x.score for x in found]
            try:
                check(labels, scores)
            except ValueError as error:
                raise ValueError(f"{file}, image {item.name}: {error}") from error
            masks = [{"size": shape, "counts": x.counts.decode()} for x in found]
            predictions[item.name] = InstancePrediction(
                masks, np.array(labels, int), np.array(scores, float)
            )
        return cls(file, predictions)

    def path(self, item: DatasetImage) -> Path:
        """The file."""
        del item
        return self.file

    def read(self, item: DatasetImage) -> InstancePrediction:
        """One image's detections."""
        return self.predictions[item.name]


def read_results(
    file: Path,
    items: Sequence[Any],
    name_of: Callable[[Any], str | None],
    size: Callable[[Any], Size],
    *,
    scored: bool,
) -> dict[str, list[Result]]:
    """Reads and checks a file of results.

    Args:
        file: the file.
        items: the images to score.
        name_of: the name of the image of an id, None where the data set has no such image.
        size: the height and width of an image.
        scored: whether entries must have scores.

    Returns:
        The entries of each of the images, by its name.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't a list of COCO results, or entries can't be used; the file and the
            places in it are named.
    """
    entries = read_json(file)
    if not isinstance(entries, list):
        raise ValueError(f"{file} isn't a list of COCO results but holds {shown(entries)}")
    faults = Faults(str(file), "write the results anew")
    sizes = {item.name: size(item) for item in items}
    results: dict[str, list[Result]] = {item.name: [] for item in items}
    for number, entry in enumerate(entries):
        try:
            name = image_of(entry, name_of, KEYS + ("score",) * scored)
            if name in results:
                results[name].append(result_of(number, entry, sizes[name]))
        except EntryError as error:
            faults.add(f"entry {number}", error)
    for name, found in results.items():
        counts, broken = check_counts([x.counts for x in found], [sizes[name]] * len(found))
        for index, fault in broken.items():
            error = EntryError("broken run lengths", fault)
            faults.add(f"entry {found[index].number}", error)
        results[name] = [x._replace(counts=y) for x, y in zip(found, counts, strict=True)]
    faults.refuse()
    return results


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


def result_of(number: int, entry: Mapping[str, Any], size: Size) -> Result:
    """Returns an entry about an image of this size; its compressed counts aren't checked yet.

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
    return Result(number, int(category_id), score, counts)
