"""Predictions in files: all are checked without their pixels first, then scored image by image.

There is one class per format; its `read` returns what an evaluation's `count` takes.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from m2f_jax.datasets.dataset import DatasetImage
from m2f_jax.files import read_json
from m2f_jax.images import read_ids
from m2f_jax.structures import Size

from ..metrics.metric import Metric
from .checks import check_keys, check_png, check_rle

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
            check_keys(result, ("image_id", "category_id", "segmentation", "score"), file, i)
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


@dataclass(frozen=True)
class PanopticFiles:
    """A COCO panoptic file and its PNG files.

    Attributes:
        maps: the folder of the PNG files.
        entries: the file's entry for each image, by its name.
    """

    maps: Path
    entries: dict[str, dict[str, Any]]

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
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("annotations"), list):
            raise ValueError(f'{file} isn\'t a COCO panoptic file: it has no list "annotations"')
        entries: dict[str, dict[str, Any]] = {}
        for i, entry in enumerate(content["annotations"]):
            check_keys(entry, ("image_id", "file_name", "segments_info"), file, i)
            name = name_of(entry["image_id"])
            if name is None:
                raise ValueError(
                    f"{file}: entry {i} is about image {entry['image_id']}, which isn't in the "
                    "ground truth"
                )
            if name in entries:
                raise ValueError(f"{file} has two entries for image {entry['image_id']}")
            for segment in entry["segments_info"]:
                check_keys(segment, ("id", "category_id"), file, i)
            entries[name] = entry
        missing = [item.name for item in items if item.name not in entries]
        if missing:
            raise ValueError(
                f"{file} has no entry for {missing[0]}, and lacks {len(missing)} of {len(items)} "
                "images in all; an image without segments needs an entry with an empty list"
            )
        segments = [segment for entry in entries.values() for segment in entry["segments_info"]]
        try:
            check({segment["category_id"] for segment in segments})
        except ValueError as error:
            raise ValueError(f"{file}: {error}") from error
        maps = file.with_name(file.name.removesuffix(".json"))
        if items:
            first = entries[items[0].name]["file_name"]
            places = maps, file.parent / "maps", file.parent
            maps = next((place for place in places if (place / first).is_file()), maps)
        found = cls(maps, entries)
        for item in items:
            check_png(found.path(item), size(item))
        return found

    def path(self, item: DatasetImage) -> Path:
        """The PNG file of an image."""
        path = self.maps / self.entries[item.name]["file_name"]
        if not path.resolve().is_relative_to(self.maps.resolve()):
            raise ValueError(f"{path} leads out of {self.maps}")
        return path

    def read(self, item: DatasetImage) -> PanopticPrediction:
        """One image's segments."""
        segment_map = read_ids(self.path(item), "rgb")
        return PanopticPrediction(segment_map, self.entries[item.name]["segments_info"])


def panoptic_json(path: Path) -> Path:
    """The JSON file at a path, or in a folder: predictions.json, or the only one.

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
