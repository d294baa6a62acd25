"""Scores predictions in files: first all are checked without their pixels, then image by image.

There is one class per format; its `read` returns what an evaluation's `count` takes.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int

from ..metrics.metric import Metric

THREADS = 2  # one counts while the other reads; more wait for the interpreter, which costs time


class InstancePrediction(NamedTuple):
    """One image's instances: bool masks [N, H, W] or RLEs, category ids, scores.

    Of a video, a mask is a list with an RLE or None for each frame.
    """

    masks: np.ndarray | Sequence[Any]
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
