"""Runs a model over a data set, a table per image; finished tables stay on disk.

An image's table is a metric that holds this image alone. So a killed run continues where it
stopped, several processes can share the images, and merging is all that is left to do at the end.
"""

import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np

from m2f_jax.config import Task
from m2f_jax.inference.prefetching import run_pipeline
from m2f_jax.inference.processor import FOR_EVALUATION
from m2f_jax.inference.segmenter import Prepared, Reduce, Segmenter
from m2f_jax.structures import Size


@runtime_checkable
class Item(Protocol):
    """An image of a data set."""

    @property
    def name(self) -> str:
        """A file name without ending, which no other image has."""
        ...


@runtime_checkable
class Metric(Protocol):
    """What all metrics have in common."""

    def merge(self, other: Any, /) -> None:
        """Adds another one's images."""

    def save(self, path: Path, /) -> None:
        """Writes one file, complete whenever it is there."""

    def result(self) -> Any:
        """The numbers for all images."""


@runtime_checkable
class Evaluation(Protocol):
    """A data set's task: how to read an image and its truth, and how to measure a segmentation."""

    task: ClassVar[Task]

    def read(self, item: Any) -> tuple[np.ndarray, Any]:
        """The image as uint8 [height, width, 3] and its ground truth."""
        ...

    def measure(self, item: Any, truth: Any, segmentation: Any, /) -> Metric:
        """A metric of this image alone."""
        ...

    def empty(self) -> Metric:
        """A metric without images."""
        ...

    def load(self, path: Path) -> Metric:
        """What `Metric.save` wrote."""
        ...


@runtime_checkable
class EvaluationOnDevice(Evaluation, Protocol):
    """One that begins on the device, where it sees the segmentation and what it needs of the truth.

    Its `measure` takes what `reduce` left instead of the segmentation.
    """

    reduce: Reduce

    def extra(self, truth: Any, canvas: Size) -> Any:
        """Arrays for the device, on the canvas of the segmentation."""
        ...


def tables_of(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The folder for the tables of a run; another model, data set or setting has another one."""
    text = json.dumps(settings, sort_keys=True)
    tables = folder / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    tables.mkdir(parents=True, exist_ok=True)
    (tables / "settings.json").write_text(json.dumps(settings, indent=2) + "\n")
    return tables


def digest_of_model(segmenter: Segmenter) -> str:
    """A fingerprint of everything that decides a result: configuration, processor, parameters."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(json.dumps(segmenter.config.to_dict(), sort_keys=True).encode())
    digest.update(repr(segmenter.processor).encode())
    for path, array in jax.tree_util.tree_leaves_with_path(segmenter.parameters):
        digest.update(jax.tree_util.keystr(path).encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def digest_of_files(paths: Sequence[Path]) -> str:
    """A fingerprint of files by name, size and time of change."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        status = os.stat(path)
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def table_of(tables: Path, item: Item) -> Path:
    """The file of one image's table."""
    return tables / f"{item.name}.npz"


def unfinished(tables: Path, items: Sequence[Any]) -> list[Any]:
    """The images without a table."""
    return [item for item in items if not table_of(tables, item).exists()]


def measure_all(
    segmenter: Segmenter, evaluation: Evaluation, items: Sequence[Any], tables: Path
) -> Iterator[tuple[Any, Exception | None]]:
    """Makes the tables of `items`; yields each of them as it is done, or with its error."""
    on_device = evaluation if isinstance(evaluation, EvaluationOnDevice) else None

    def read(item: Any) -> tuple[Prepared, Any]:
        image, truth = evaluation.read(item)
        prepared = segmenter.prepare(image)
        if on_device is not None:
            extra = on_device.extra(truth, prepared.canvas)
            prepared = dataclasses.replace(prepared, extra=extra)
        return prepared, truth

    def finish(item: Any, truth: Any, segmentation: Any):
        evaluation.measure(item, truth, segmentation).save(table_of(tables, item))

    options: dict[str, Any] = {"threshold": FOR_EVALUATION}
    if on_device is not None:
        options["reduce"] = on_device.reduce
    outcomes = run_pipeline(segmenter, evaluation.task, items, read, finish, **options)
    for item, outcome in outcomes:
        yield item, outcome if isinstance(outcome, Exception) else None


def merged(evaluation: Evaluation, tables: Path, items: Sequence[Any]) -> Metric:
    """The metric of these images.

    Raises:
        ValueError: a table is damaged; it is taken away, so that the next run makes it anew.
    """
    metric = evaluation.empty()
    for item in items:
        path = table_of(tables, item)
        try:
            metric.merge(evaluation.load(path))
        except ValueError as error:
            path.unlink()
            raise ValueError(f"{error}; it is removed, run the same command again") from error
    return metric


def to_bytes(metric: Metric) -> bytes:
    """What `Metric.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metric.npz")
        metric.save(path)
        return path.read_bytes()


def from_bytes(evaluation: Evaluation, data: bytes) -> Metric:
    """The metric that `to_bytes` was given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metric.npz")
        path.write_bytes(data)
        return evaluation.load(path)
