"""Predictions in files: all are checked without their pixels first, then scored image by image.

There is one class per format; its `read` returns what an evaluation's `count` takes.
"""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from m2f_jax.datasets.dataset import DatasetImage
from m2f_jax.files import read_json
from m2f_jax.structures import Size

from ..metrics.metric import Metric
from .checks import check_keys, check_rle

THREADS = 4  # PIL and numpy let go of the interpreter while they work


class InstancePrediction(NamedTuple):
    """One image's instances: bool masks [N, H, W] or RLEs, category ids, scores."""

    masks: np.ndarray | list[dict[str, Any]]
    labels: np.ndarray
    scores: np.ndarray


class PanopticPrediction(NamedTuple):
    """One image's segments, as `PanopticQuality.add` takes them."""

    segment_map: Int[np.ndarray, "H W"]
    segments: list[dict[str, Any]]


@runtime_checkable
class PredictionFiles(Protocol):
    """A data set's predictions in files."""

    def path(self, item: Any, /) -> Path:
        """Returns the file of an image's prediction, for messages."""
        ...

    def read(self, item: Any, /) -> Any:
        """Returns an image's prediction."""
        ...


@runtime_checkable
class FileEvaluation(Protocol):
    """What scoring files needs of an evaluation."""

    def empty(self) -> Metric:
        """Returns a metric without images."""
        ...

    def truth(self, index: int, /) -> Any:
        """Returns an image's ground truth."""
        ...

    def count(self, index: int, truth: Any, prediction: Any, /) -> Metric:
        """Returns a metric of this image alone."""
        ...


def measure_files(
    evaluation: FileEvaluation, items: Sequence[Any], files: PredictionFiles
) -> Iterator[Metric]:
    """Yields the metric of each of the first images of a data set.

    Raises:
        ValueError: something doesn't fit; the message names a file.
    """

    def measure(index: int) -> Metric:
        item, truth = items[index], evaluation.truth(index)
        try:
            return evaluation.count(index, truth, files.read(item))
        except ValueError as error:
            path = files.path(item)
            raise ValueError(error if str(path) in str(error) else f"{path}: {error}") from error

    with ThreadPoolExecutor(THREADS) as pool:
        try:
            yield from pool.map(measure, range(len(items)))
        finally:
            pool.shutdown(cancel_futures=True)


@dataclass(frozen=True)
class CocoResults:
    """A COCO results file: a list of instances.

    Attributes:
        file: the file.
        entries: the detections of each image, by its name.
    """

    file: Path
    entries: dict[str, list[dict[str, Any]]]

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
            ValueError: it isn't a list of COCO results, or speaks of other images, categories or
                sizes; the file and the place in it are named.
        """
        results = read_json(file)
        if not isinstance(results, list):
            raise ValueError(f"{file} isn't a list of COCO results but a {type(results).__name__}")
        entries: dict[str, list[dict[str, Any]]] = {item.name: [] for item in items}
        for i, result in enumerate(results):
            keys = ("image_id", "category_id", "segmentation", "score")
            check_keys(result, keys, f"{file}: entry {i}")
            name = name_of(result["image_id"])
            if name is None:
                raise ValueError(
                    f"{file}: entry {i} is about image {result['image_id']}, which isn't in the "
                    "ground truth"
                )
            entries.setdefault(name, []).append(result)
        for item in items:
            found = entries[item.name]
            try:
                check([x["category_id"] for x in found], [x["score"] for x in found])
                for entry in found:
                    check_rle(entry["segmentation"], size(item))
            except ValueError as error:
                raise ValueError(f"{file}, image {item.name}: {error}") from error
        return cls(file, entries)

    def path(self, item: DatasetImage) -> Path:
        """The file."""
        del item
        return self.file

    def read(self, item: DatasetImage) -> InstancePrediction:
        """One image's detections."""
        entries = self.entries[item.name]
        return InstancePrediction(
            [entry["segmentation"] for entry in entries],
            np.array([entry["category_id"] for entry in entries], int),
            np.array([entry["score"] for entry in entries], float),
        )
