"""The tables of images, each a metric of one image alone, in a folder; and their sum."""

import hashlib
import json
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from m2f_jax.files import write_json

from ..metrics.metric import Metric
from ..tasks import Evaluation


def tables_of(folder: Path, settings: Mapping[str, Any]) -> Path:
    """Returns the folder of a run's tables; other models, data and settings have others."""
    text = json.dumps(settings, sort_keys=True)
    tables = folder / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    tables.mkdir(parents=True, exist_ok=True)
    write_json(tables / "settings.json", settings)
    return tables


def table_of(tables: Path, image: Any) -> Path:
    """Returns the file of one image's table."""
    return tables / f"{image.name}.npz"


def merged(evaluation: Evaluation, tables: Path, indices: Sequence[int]) -> Metric:
    """Returns the metric of these images.

    Raises:
        ValueError: a table is damaged; it is removed, so that the next run makes it anew.
    """

    def load(index: int) -> Metric:
        path = table_of(tables, evaluation.dataset.images[index])
        try:
            return evaluation.load(path)
        except ValueError as error:
            path.unlink()
            raise ValueError(f"{error}; it is removed, run the same command again") from error

    return sum_of(evaluation.empty(), map(load, indices))


def sum_of(empty: Metric, parts: Iterable[Metric]) -> Metric:
    """Returns one metric with the images of all parts, merged into an empty one."""
    for part in parts:
        empty.merge(part)
    return empty


def to_bytes(metric: Metric) -> bytes:
    """Returns what `Metric.save` writes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metric.npz")
        metric.save(path)
        return path.read_bytes()


def from_bytes(evaluation: Evaluation, data: bytes) -> Metric:
    """Returns the metric that `to_bytes` was given."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "metric.npz")
        path.write_bytes(data)
        return evaluation.load(path)
