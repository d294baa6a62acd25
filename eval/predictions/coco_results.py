"""Results in COCO's format: a list of instances, each with its image, category, mask and score."""

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


class Detection(NamedTuple):
    """An entry of a results file."""

    number: int
    category_id: int
    score: float
    segmentation: Any


@dataclass(frozen=True)
class CocoResults:
    """A COCO results file: a list of instances.

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
            ValueError: it isn't a list of COCO results, or entries can't be used; the file and the
                places in it are named.
        """
        results = read_json(file)
        if not isinstance(results, list):
            raise ValueError(f"{file} isn't a list of COCO results but holds {shown(results)}")
        faults = Faults(str(file), "write the results anew")
        found: dict[str, list[Detection]] = {item.name: [] for item in items}
        for number, result in enumerate(results):
            try:
                name, detection = detection_of(number, result, name_of)
                found.setdefault(name, []).append(detection)
            except EntryError as error:
                faults.add(f"entry {number}", error)
        faults.refuse()
        predictions = {}
        for item in items:
            detections, shape = found[item.name], size(item)
            try:
                check([x.category_id for x in detections], [x.score for x in detections])
            except ValueError as error:
                raise ValueError(f"{file}, image {item.name}: {error}") from error
            predictions[item.name] = InstancePrediction(
                [
                    {"size": list(shape), "counts": counts.decode("ascii", "replace")}
                    for counts in checked_masks(detections, shape, faults)
                ],
                np.array([x.category_id for x in detections], int),
                np.array([x.score for x in detections], float),
            )
        faults.refuse()
        return cls(file, predictions)

    def path(self, item: DatasetImage) -> Path:
        """The file."""
        del item
        return self.file

    def read(self, item: DatasetImage) -> InstancePrediction:
        """One image's detections."""
        return self.predictions[item.name]


def detection_of(
    number: int, result: Any, name_of: Callable[[Any], str | None]
) -> tuple[str, Detection]:
    """Returns the name of an entry's image, and the entry, whose mask isn't checked yet.

    Raises:
        EntryError: it can't be used.
    """
    if not isinstance(result, Mapping):
        raise EntryError("no object", f"it is {shown(result)}, not an object")
    missing = {"image_id", "category_id", "segmentation", "score"} - set(result)
    if missing:
        boxes = "; boxes alone can't be scored as masks" if "bbox" in result else ""
        raise EntryError("incomplete", f"it has no {', '.join(sorted(missing))}{boxes}")
    image_id, category_id, score = result["image_id"], result["category_id"], result["score"]
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
    if not is_whole(category_id) or abs(category_id) > MAX_CATEGORY:
        raise EntryError(
            "category_id", f"category_id is {shown(category_id)}; it must be a category's id"
        )
    if not is_number(score) or not abs(score) <= LARGEST:
        raise EntryError("score", f"score is {shown(score)}; it must be a finite number")
    return name, Detection(number, int(category_id), float(score), result["segmentation"])


def checked_masks(detections: Sequence[Detection], size: Size, faults: Faults) -> list[bytes]:
    """Returns the compressed counts of an image's detections; what is wrong goes to `faults`."""
    drawn: list[bytes] = []
    for detection in detections:
        try:
            drawn.append(outline_counts(outline_of(detection.segmentation, size), size))
        except EntryError as error:
            faults.add(f"entry {detection.number}", error)
            return []
    counts, broken = check_counts(drawn, [size] * len(drawn))
    for index, fault in broken.items():
        error = EntryError("broken run lengths", fault)
        faults.add(f"entry {detections[index].number}", error)
    return counts
