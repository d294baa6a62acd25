"""Evaluation of a model on a data set.

Each image makes a table, a metric that holds this image alone, which is kept in a file. So a killed
run goes on where it stopped, several processes can share the images, and at the end the tables are
merged.
"""

import contextlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.video_segmenter import VideoSegmenter
from m2f_jax.labels import Label

from .analysis.analysis import analyze
from .analysis.boundary import boundary_measure
from .metrics.coco.mask_ap import CocoMaskAP
from .metrics.coco.tool import Tool
from .predictions.exports import export_folder, finish_export
from .results.comparable import published_scores
from .results.evaluated import Evaluated
from .results.headline import scores_of
from .running.file_digest import digest_of_files
from .running.measuring import measure_all
from .running.model_digest import digest_of_segmenter
from .running.processes import check_same, exchange, share_of
from .running.tables import from_bytes, merged, sum_of, table_of, tables_of, to_bytes
from .tasks import Evaluation, evaluation_of, matched_labels

Progress = Callable[[Any, Exception | None], None]


class EvaluationError(ValueError):
    """Some images or videos could not be evaluated.

    Attributes:
        summary: how many, in a sentence.
        failures: pairs of an image and its error, of this process's share.
    """

    def __init__(
        self, failed: int, count: int, failures: Sequence[tuple[Any, Exception]], unit: str
    ):
        self.summary = f"{failed} of {count} {unit}s failed, and there is no result without them"
        self.failures = tuple(failures)
        super().__init__("; ".join([self.summary, *(str(error) for _, error in failures[:1])]))


def evaluate(
    segmenter: Segmenter | VideoSegmenter,
    dataset: Dataset | YtvisDataset,
    *,
    task: Task | None = None,
    out: str | os.PathLike | None = None,
    export: str | os.PathLike | None = None,
    limit: int | None = None,
    tables: str | os.PathLike | None = None,
    boundary: bool = False,
    settings: Mapping[str, Any] | None = None,
    source: str | None = None,
    tool: Tool | None = None,
    processes: bool = True,
    progress: Progress | None = None,
    on_start: Callable[[int, int], None] | None = None,
) -> Evaluated:
    """Scores a model on a data set.

    Args:
        segmenter: the model. Its classes are matched with the data set's by name.
        dataset: what `m2f_jax.datasets.opening.open_dataset` returns, or a data set of your own; of
            videos, what `m2f_jax.datasets.published.ytvis.ytvis_dataset` returns.
        task: "instance", "panoptic" or "semantic"; by default what the data set was opened for.
        out: a folder for results.json, the analysis beside it, and the images' tables, from which
            an interrupted evaluation continues.
        export: a folder for the predictions in the official format.
        limit: only the first so many images.
        tables: another folder for the tables. Without it and `out`, nothing is kept.
        boundary: also the boundary measure: Boundary PQ of segments, Boundary AP of instances.
        settings: more about what is evaluated, for results.json. Other settings, another model and
            other data never share tables.
        source: the hub id or path of the model, from which the authors' scores are known where
            published models are configured alike.
        tool: computes COCO's mask AP, see `CocoMaskAP`.
        processes: the processes of `jax.distributed` share the images: all of them call this
            function, and all get the same outcome. False: this process evaluates all images.
        progress: called after each image with its entry of `dataset.images`, and with its error.
        on_start: called once with two numbers of this process's images: those that have no table
            yet, and all.

    Raises:
        EvaluationError: images can't be read or segmented. All others are done, and in their
            tables.
        FileNotFoundError: files of the data set are missing.
        ValueError: the classes don't fit, the model is of videos and the data of images or the
            reverse, the task has no boundary measure, or the processes evaluate different things.
    """
    if isinstance(dataset, YtvisDataset) != isinstance(segmenter, VideoSegmenter):
        raise ValueError("videos are scored with a VideoSegmenter, and images with a Segmenter")
    task = task or dataset.task
    place = None if export is None else export_folder(Path(export), dataset, task)
    labels = segmenter.config.labels
    evaluation, files = checked_evaluation(dataset, task, labels, limit, place, tool, boundary)
    count = len(dataset.images[:limit])
    settings = dict(settings or {})
    with contextlib.ExitStack() as stack:
        if tables is None and out is not None:
            tables = Path(out, "tables")
        kept = tables is not None
        settings |= {
            **({"model digest": digest_of_segmenter(segmenter)} if kept else {}),
            "dtype": np.dtype(segmenter.dtype).name,
            "device": jax.devices()[0].device_kind,
            "batch size": segmenter.batch_size,
            "task": task,
            "data": dataset.title,
            **({"data digest": digest_of_files(files)} if kept else {}),
            "export": None if export is None else os.fspath(export),
        }
        asked = {"boundary": True} if boundary else {}
        # Tables by COCO's rules hold the masks, which serve with and without boundaries.
        holds_masks = isinstance(evaluation.empty(), CocoMaskAP)
        of_tables = settings | ({} if holds_masks else asked)
        settings |= asked
        if tables is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = tables_of(Path(tables), of_tables)
        ours = range(count)
        if processes:
            ours = share_of(ours)
        images = dataset.images
        todo = [i for i in ours if not table_of(folder, images[i]).exists()]
        if on_start is not None:
            on_start(len(todo), len(ours))
        failures = []
        for index, error in measure_all(segmenter, evaluation, todo, folder):
            if error is not None:
                failures.append((images[index], error))
            if progress is not None:
                progress(images[index], error)

        def exchanged(message: bytes) -> list[bytes]:
            return exchange(message) if processes else [message]

        failed = sum(int(text) for text in exchanged(str(len(failures)).encode()))
        if failed:
            raise EvaluationError(
                failed, count, failures, "video" if isinstance(dataset, YtvisDataset) else "image"
            )
        check_same([json.loads(text) for text in exchanged(json.dumps(settings).encode())])
        metric = merged(evaluation, folder, ours)
        if processes and jax.process_count() > 1:
            parts = exchange(to_bytes(metric))
            metric = sum_of(evaluation.empty(), (from_bytes(evaluation, part) for part in parts))
    result, measure = metric.result(), boundary_measure(metric) if boundary else None
    writes = jax.process_index() == 0 or not processes
    evaluated = Evaluated(
        task=task,
        scores=scores_of(result, measure),
        published=published_scores(
            segmenter.config, segmenter.processor, dataset, task, count, source
        ),
        images=count,
        settings=settings,
        result=result,
        analysis=analyze(metric, result, measure) if writes and out else None,
        boundary=measure,
    )
    if writes:
        if out is not None:
            evaluated.write(Path(out))
        if place is not None:
            finish_export(place, dataset, task, count)
    return evaluated


def checked_evaluation(
    dataset: Dataset | YtvisDataset,
    task: Task,
    labels: Sequence[Label],
    limit: int | None = None,
    export: Path | None = None,
    tool: Tool | None = None,
    boundary: bool = False,
) -> tuple[Evaluation, list[Path]]:
    """Returns the evaluation of a model with these classes, and the files that it needs, all there.

    Raises:
        FileNotFoundError: files are missing.
        ValueError: the classes or the annotations don't fit.
    """
    matched = matched_labels(labels, dataset, task)
    evaluation = evaluation_of(dataset, task, matched, export, tool, boundary)
    files = files_of(dataset, task, len(dataset.images[:limit]))
    evaluation.empty()  # reads COCO's annotations
    return evaluation, files


def files_of(dataset: Dataset | YtvisDataset, task: Task, count: int) -> list[Path]:
    """Returns the files of the first images, without repetition.

    Raises:
        FileNotFoundError: some are missing.
    """
    files = list(dict.fromkeys(x for i in range(count) for x in dataset.files(i, task)))
    missing = [path for path in files if not path.is_file()]
    if missing:
        raise FileNotFoundError(
            f"{len(missing)} of the {len(files)} files of {dataset.title} are missing, the first "
            f"one {missing[0]}"
        )
    return files
