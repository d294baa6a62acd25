"""Evaluation of a model on a data set.

Each image makes a table, a metric that holds this image alone, which is kept in a file. So a killed
run goes on where it stopped, several processes can share the images, and at the end the tables are
merged.
"""

import contextlib
import dataclasses
import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.published.cityscapes import CityscapesDataset
from m2f_jax.datasets.published.ytvis import Video, YtvisDataset
from m2f_jax.files import write_json
from m2f_jax.inference.digest import digest_of_model
from m2f_jax.inference.prefetching import run_pipeline
from m2f_jax.inference.processor import FOR_EVALUATION
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.video_segmenter import VideoSegmenter
from m2f_jax.labels import Label

from .analysis.analysis import Analysis, analyze
from .analysis.finished import RESULTS, write_analysis
from .instances_on_device import count_instances, region_input
from .metrics.coco.lvis_ap import LvisMaskAP
from .metrics.coco.tool import Tool
from .metrics.instances.region_tables import Regions
from .metrics.metric import Metric
from .predictions.exports import finish_panoptic, finish_results
from .processes import exchange, share_of
from .provenance import provenance
from .published import Published, published_scores
from .scores import headline_scores
from .tasks import Evaluation, InstanceEvaluation, evaluation_of, matched_labels

Progress = Callable[[Any, Exception | None], None]


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The outcome of an evaluation.

    Attributes:
        task: what was evaluated.
        scores: the headline numbers in percent: "AP", "AP50", "AP75", "PQ", "mIoU".
        published: the authors' scores of this model.
        images: how many were evaluated.
        settings: what was evaluated and how.
        result: all numbers, as the metric returns them.
        analysis: what lies behind them; None unless results are kept in a folder.
        provenance: the version, the date and the command.
    """

    task: Task
    scores: Mapping[str, float]
    published: Published
    images: int
    settings: Mapping[str, Any]
    result: Any
    analysis: Analysis | None = None
    provenance: Mapping[str, str] = field(default_factory=provenance)

    def write(self, folder: Path):
        """Writes results.json, and the analysis beside it."""
        if self.analysis is not None:
            write_analysis(folder, self.analysis)
        self.save(folder / RESULTS)

    def save(self, path: Path):
        """Writes them as JSON, with all the numbers that the official script writes."""
        values = {
            "task": self.task,
            "scores": dict(self.scores),
            "published": self.published.to_dict(self.scores),
            "images": self.images,
            "settings": dict(self.settings),
            "provenance": dict(self.provenance),
            "official": self.result.to_json(),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, values)


class EvaluationError(ValueError):
    """Some images failed, or videos.

    Attributes:
        summary: how many.
        failures: image and error, of this process's part.
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
        boundary: also Boundary AP, in `out`; of COCO's instances.
        settings: more about what is evaluated, for results.json. Other settings, another model and
            other data never share tables.
        source: the hub id or path of the model, from which the authors' scores are known where
            published models are configured alike.
        tool: computes COCO's mask AP, see `CocoMaskAP`.
        processes: the processes of `jax.distributed` share the images: all of them call this
            function, and all get the same outcome. False: this process evaluates all images.
        progress: called after each image with its entry of `dataset.images`, and with its error.
        on_start: called once with the numbers of images to do and of images in all, of this
            process; the others have tables already.

    Raises:
        EvaluationError: images can't be read or segmented. All others are done, and in their
            tables.
        FileNotFoundError: files of the data set are missing.
        ValueError: the classes don't fit, the model is of videos and the data of images or the
            reverse, or the processes evaluate different things.
    """
    if isinstance(dataset, YtvisDataset) != isinstance(segmenter, VideoSegmenter):
        raise ValueError("videos are scored with a VideoSegmenter, and images with a Segmenter")
    task = task or dataset.task
    place = None if export is None else export_folder(Path(export), dataset, task)
    labels = segmenter.config.labels
    evaluation, files = checked_evaluation(dataset, task, labels, limit, place, tool)
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
        if tables is None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        else:
            folder = tables_of(Path(tables), settings)
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
        own = merged(evaluation, folder, ours)
        if processes and jax.process_count() > 1:
            metric = empty(evaluation)
            for part in exchange(to_bytes(own)):
                metric.merge(from_bytes(evaluation, part))
        else:
            metric = own
    result = metric.result()
    options = {"boundary": True} if boundary else {}
    writes = jax.process_index() == 0 or not processes
    evaluated = Evaluated(
        task=task,
        scores=headline_scores(result),
        published=published_scores(
            segmenter.config, segmenter.processor, dataset, task, count, source
        ),
        images=count,
        settings=settings,
        result=result,
        analysis=analyze(metric, result, **options) if writes and out else None,
    )
    if writes:
        if out is not None:
            evaluated.write(Path(out))
        if place is not None:
            finish_export(place, evaluation, count)
    return evaluated


def checked_evaluation(
    dataset: Dataset | YtvisDataset,
    task: Task,
    labels: Sequence[Label],
    limit: int | None = None,
    export: Path | None = None,
    tool: Tool | None = None,
) -> tuple[Evaluation, list[Path]]:
    """Returns the evaluation of a model's classes and its files, checked but for their pixels.

    Raises:
        FileNotFoundError: files are missing.
        ValueError: the classes or the annotations don't fit.
    """
    matched = matched_labels(labels, dataset, task)
    evaluation = evaluation_of(dataset, task, matched, export, tool)
    files = files_of(dataset, task, len(dataset.images[:limit]))
    evaluation.empty()  # reads COCO's annotations
    return evaluation, files


def export_folder(export: Path, dataset: Dataset | YtvisDataset, task: Task) -> Path:
    """Where predictions in the official format of a task are written, image by image.

    Raises:
        FileExistsError: the folder holds what `m2f predict` wrote, whose list of images would then
            be about other ids.
    """
    if (export / "images.json").exists():
        raise FileExistsError(
            f"{export} holds what m2f predict wrote; choose another folder for --export"
        )
    if task == "panoptic" and isinstance(dataset, CityscapesDataset):
        return export / f"cityscapes_panoptic_{dataset.split}"  # as the official script has it
    if task == "panoptic" or (task == "instance" and dataset.rules != "cityscapes"):
        return export / "predictions"
    return export


def finish_export(folder: Path, evaluation: Evaluation, count: int):
    """Writes the JSON file of all images where the format has one.

    Raises:
        FileNotFoundError: an image's entry was exported before and is gone.
    """
    dataset = evaluation.dataset
    file, names = folder.with_name(f"{folder.name}.json"), [x.name for x in dataset.images[:count]]
    if evaluation.task == "panoptic":
        finish_panoptic(file, folder, names, dataset.categories)
    elif evaluation.task == "instance" and dataset.rules != "cityscapes":
        finish_results(file, folder, names)


def files_of(dataset: Dataset | YtvisDataset, task: Task, count: int) -> list[Path]:
    """The files of the first images, without repetition.

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


def check_same(settings: Sequence[Mapping[str, Any]]):
    """Refuses to merge what the processes measured of different things.

    Raises:
        ValueError: a setting differs.
    """
    for i, other in enumerate(settings):
        # Copies of the files on other machines may have other times.
        different = [
            name
            for name in settings[0]
            if name != "data digest" and other.get(name) != settings[0][name]
        ]
        if different:
            raise ValueError(
                f"process {i} evaluates something else than process 0: its {different[0]} is "
                f"{other.get(different[0])}, not {settings[0].get(different[0])}; start all "
                "processes with the same command, model and data"
            )


def tables_of(folder: Path, settings: Mapping[str, Any]) -> Path:
    """The folder for the tables of a run; another model, data set or setting has another one."""
    text = json.dumps(settings, sort_keys=True)
    tables = folder / hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
    tables.mkdir(parents=True, exist_ok=True)
    write_json(tables / "settings.json", settings)
    return tables


def digest_of_segmenter(segmenter: Segmenter | VideoSegmenter) -> str:
    """Returns a digest of everything that decides a result: model and processor."""
    model = digest_of_model(segmenter.config, segmenter.parameters)
    text = f"{model} {segmenter.processor!r}"
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def digest_of_files(paths: Sequence[Path]) -> str:
    """Returns a fingerprint of files by name, size and time of change."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        status = os.stat(path)
        digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def table_of(tables: Path, image: Any) -> Path:
    """The file of one image's table."""
    return tables / f"{image.name}.npz"


def measure_all(
    segmenter: Segmenter | VideoSegmenter,
    evaluation: Evaluation,
    indices: Sequence[int],
    tables: Path,
    on_device: bool | None = None,
) -> Iterator[tuple[int, Exception | None]]:
    """Makes the tables of images, and yields each image's index with None or its error.

    With `on_device`, the masks of instances are counted on the device, to the same bits. By default
    they are where this can be done and is faster.
    """
    if on_device is None:
        countable = evaluation.task == "instance" and evaluation.dataset.rules == "cityscapes"
        # On a CPU, masks are counted faster where they are.
        on_device = countable and evaluation.export is None and jax.default_backend() != "cpu"

    def read(index: int) -> tuple[Any, Any]:
        item: Any = evaluation.dataset.images[index]
        source: Any = item.frames if isinstance(item, Video) else item.image
        prepared: Any = segmenter.prepare(source)
        truth = evaluation.truth(index)
        if on_device:
            assert isinstance(truth, Regions)
            extra = region_input(truth, prepared.canvas)
            prepared = dataclasses.replace(prepared, extra=extra)
        return prepared, truth

    def finish(index: int, truth: Any, segmentation: Any):
        if on_device:
            assert isinstance(evaluation, InstanceEvaluation)
            processor = segmenter.processor
            metric = evaluation.measure_counts(index, truth, segmentation, processor)
        else:
            metric = evaluation.measure(index, truth, segmentation)
        metric.save(table_of(tables, evaluation.dataset.images[index]))

    options: dict[str, Any] = {"threshold": FOR_EVALUATION}
    if on_device:
        options["reduce"] = count_instances
    if evaluation.task == "instance" and evaluation.dataset.rules == "lvis":
        options["top_k"] = LvisMaskAP.limit
    outcomes = run_pipeline(segmenter, evaluation.task, indices, read, finish, **options)
    for index, outcome in outcomes:
        yield index, outcome if isinstance(outcome, Exception) else None


def empty(evaluation: Evaluation) -> Metric:
    """Returns a metric without images."""
    return evaluation.empty()


def merged(evaluation: Evaluation, tables: Path, indices: Sequence[int]) -> Metric:
    """Returns the metric of these images.

    Raises:
        ValueError: a table is damaged; it is removed, so that the next run makes it anew.
    """
    metric = empty(evaluation)
    for index in indices:
        path = table_of(tables, evaluation.dataset.images[index])
        try:
            metric.merge(evaluation.load(path))
        except ValueError as error:
            path.unlink()
            raise ValueError(f"{error}; it is removed, run the same command again") from error
    return metric


def to_bytes(metric: Metric) -> bytes:
    """Returns what `Metric.save` writes."""
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
