"""Segments the images of a Ray dataset: each actor has a device and the model, and writes parts."""

import contextlib
import functools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import pyarrow as pa
import pyarrow.fs
import ray
import ray.data

from m2f_jax.config import Task, VideoMask2FormerConfig
from m2f_jax.files import remove_unfinished
from m2f_jax.files.folder_lock import only_run_in
from m2f_jax.images import decode_image, image_suffixes, set_max_pixels
from m2f_jax.images.opening import check_regular, reason
from m2f_jax.inference.digest import digest_of_model
from m2f_jax.inference.opened import OpenedModel
from m2f_jax.inference.prefetching import run_pipeline
from m2f_jax.inference.processor import FOR_DISPLAY
from m2f_jax.inference.results import Segmentation
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import Label
from m2f_jax.pixel_limit import MAX_PIXELS
from m2f_jax.pretrained import load
from m2f_jax.ray.outcomes import outcomes_of
from m2f_jax.ray.parts import LOCK_FILE, SUMMARY_FILE, Done, Parts, contents_of, digest_of
from m2f_jax.ray.pools import Pool, in_task, on_actors, table_of
from m2f_jax.ray.rows import segments_of
from m2f_jax.ray.uris import below, find, reaching

THREADS = 4  # to look whether finished images have changed
TOLD = 10  # errors of a batch that are returned; all are in the files
PART = 512  # images


@dataclass(frozen=True)
class Segmented:
    """The outcome of a run.

    Attributes:
        finished: images whose results were written.
        failed: images that failed, whose errors were written.
        skipped: images whose results were there.
        errors: the first errors.
    """

    finished: int = 0
    failed: int = 0
    skipped: int = 0
    errors: tuple[str, ...] = ()


Progress = Callable[[Segmented], None]


def segment(
    dataset: ray.data.Dataset | str | os.PathLike | Sequence[str | os.PathLike],
    source: str | os.PathLike,
    out: str | os.PathLike,
    *,
    task: Task | None = None,
    threshold: float | None = FOR_DISPLAY,
    top_k: int = 100,
    dtype: str | None = None,
    labels: str | os.PathLike | Sequence[Label] | None = None,
    revision: str | None = None,
    batch_size: int = 1,
    upright: bool = True,
    max_pixels: int = MAX_PIXELS,
    actors: int | None = None,
    part_size: int = PART,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Segmented:
    """Segments many images on a Ray cluster, into Parquet files.

    Each actor has a device, loads the model once, and writes one file for each part of the images.
    Images whose results are there already aren't done anew, so an interrupted run goes on when it
    is started again. Images that fail become rows with an error, and are tried again by the next
    run. An actor that dies is started again, and does its part anew. Results are those of a
    `Segmenter` on one device. Uses the cluster that this process is connected to (`ray.init`), or
    starts one here.

    Args:
        dataset: rows with the columns "path" and "bytes", such as
            `ray.data.read_binary_files(paths, include_paths=True)` returns; or with "path" alone,
            whose files the actors read. Paths tell images apart. Or files and folders themselves,
            as paths or URIs (s3://, gs://, hdfs://); in folders, files with the ending of an image.
        source: a model of images as for `m2f_jax.load`, which every machine must reach.
        out: the folder for results, as a path that all machines share or a URI.
        task: "instance", "panoptic" or "semantic"; by default what the model was trained for.
        threshold: the least score of an instance: `FOR_DISPLAY`, or `FOR_EVALUATION` (None).
        top_k: the most instances of an image.
        dtype: "float32" or "bfloat16"; by default bfloat16 on GPUs and TPUs and float32 on CPUs.
        labels: as for `m2f_jax.load`.
        revision: as for `m2f_jax.load`.
        batch_size: images that a device takes at a time, where neighbours have the same size.
        upright: whether to heed EXIF.
        max_pixels: larger images fail.
        actors: how many there are; by default one for each GPU or TPU chip, else for each machine.
        part_size: images in a file, of which an actor that dies loses one.
        overwrite: remove the results that are there, and start anew.
        progress: called with what became of each part.

    Raises:
        FileExistsError: the folder holds something else, results of other settings, or another run
            is writing there.
        FileNotFoundError: there is no such model, or no such file or folder of images.
        ValueError: the model can't be used, or the dataset has other columns.
        OSError: results can't be written.
    """
    if not ray.is_initialized():
        ray.init()
    pool = Pool.of_cluster(actors)
    dtype = dtype or ("bfloat16" if pool.has_accelerators else "float32")
    open_model = functools.partial(
        open_checkpoint, source, dtype, task, labels, revision, top_k, batch_size
    )

    def settings_of(model: OpenedModel) -> dict[str, Any]:  # the same as of m2f predict
        instance = model.task == "instance"
        return {
            "weights": model.weights,
            "labels": [
                {"id": x.id, "name": x.name, "isthing": int(x.is_thing)} for x in model.labels
            ],
            "processor": model.processor,
            "task": model.task,
            "threshold": threshold if instance else None,
            "top_k": top_k if instance else None,
            "dtype": dtype,
            "native": False,
            "tiles": None,
            "ignore_exif": not upright,
        }

    if not isinstance(dataset, ray.data.Dataset):
        dataset = list_images([dataset] if isinstance(dataset, str | os.PathLike) else dataset)
    return segment_by(
        open_model,
        dataset,
        out,
        settings_of,
        {"model": os.fspath(source), "revision": revision},
        threshold=threshold,
        upright=upright,
        max_pixels=max_pixels,
        pool=pool,
        part_size=part_size,
        overwrite=overwrite,
        progress=progress,
    )


def segment_by(
    open_model: Callable[[], OpenedModel],
    dataset: ray.data.Dataset | Sequence[str],
    out: str | os.PathLike,
    settings_of: Callable[[OpenedModel], Mapping[str, Any]],
    source: Mapping[str, Any],
    *,
    threshold: float | None,
    upright: bool,
    max_pixels: int,
    pool: Pool,
    part_size: int = PART,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Segmented:
    """Does what `segment` says, with any way to open a model.

    Args:
        open_model: opens it, on the machine of an actor; can be pickled.
        dataset: as for `segment`, or the paths of files.
        out: as for `segment`.
        settings_of: returns all that results depend on besides the image, as plain JSON values.
        source: more about the run, for run.json.
        threshold: as for `segment`.
        upright: as for `segment`.
        max_pixels: as for `segment`.
        pool: the actors.
        part_size: as for `segment`.
        overwrite: as for `segment`.
        progress: as for `segment`.
    """
    size = part_size
    if not isinstance(dataset, ray.data.Dataset):
        paths = list(dict.fromkeys(dataset))
        size = max(1, min(part_size, -(-len(paths) // pool.actors)))
        dataset = table_of({"path": paths}, size)
    parts = Parts.at(out)
    local = isinstance(parts.filesystem, pyarrow.fs.LocalFileSystem)
    if local:
        Path(parts.path).mkdir(parents=True, exist_ok=True)
    with only_run_in(Path(parts.path), LOCK_FILE) if local else contextlib.nullcontext():
        if local:
            remove_unfinished(Path(parts.path))
        model = in_task(describe, open_model)
        parts.open(settings_of(model), source, overwrite=overwrite)
        done = ray.put(parts.done())
        work = Work(open_model, model.weights, parts.name, threshold, upright, max_pixels)
        total = Segmented()
        for row in on_actors(dataset, SegmentingActor, (work, [done]), pool, size):
            part = Segmented(row["finished"], row["failed"], row["skipped"], tuple(row["errors"]))
            total = Segmented(
                total.finished + part.finished,
                total.failed + part.failed,
                total.skipped + part.skipped,
                (*total.errors, *part.errors)[:TOLD],
            )
            if progress is not None:
                progress(part)
        counts = {"finished": total.finished + total.skipped, "failed": total.failed}
        parts.write_json(SUMMARY_FILE, counts)
    return total


def open_checkpoint(
    source: str | os.PathLike,
    dtype: str,
    task: Task | None,
    labels: Any,
    revision: str | None,
    top_k: int,
    batch_size: int,
) -> OpenedModel:
    """Opens a model on all devices that this process sees; arguments are those of `segment`."""
    opened = load(source, dtype, labels=labels, revision=revision)
    if isinstance(opened.config, VideoMask2FormerConfig):
        raise ValueError(f"{source} is a model of videos; choose one of images")
    segmenter = Segmenter(opened.model, opened.processor, jax.local_devices(), batch_size)
    return OpenedModel(
        segmenter,
        task or opened.config.task,
        opened.labels,
        dtype,
        top_k,
        digest_of_model(opened.config, segmenter.parameters),
        repr(opened.processor),
    )


def describe(open_model: Callable[[], OpenedModel]) -> OpenedModel:
    """Opens a model, and returns it without its segmenter, to be sent to other machines."""
    return open_model()._replace(segmenter=None)


def list_images(names: Iterable[str | os.PathLike]) -> list[str]:
    """Returns the files that paths and URIs name, in order; of folders, all images below them.

    Raises:
        FileNotFoundError: there is no such file or folder, or no image in it.
        ValueError: no file system goes by such a URI.
        OSError: one of them can't be reached.
    """
    suffixes = image_suffixes()
    files = []
    for name in [os.fspath(x) for x in names]:
        filesystem, path = find(name)
        with reaching(name):
            kind = filesystem.get_file_info(path).type
        if kind == pyarrow.fs.FileType.NotFound:
            raise FileNotFoundError(f"{name} is missing")
        if kind != pyarrow.fs.FileType.Directory:
            files.append(name)
            continue
        with reaching(name):
            infos = filesystem.get_file_info(pyarrow.fs.FileSelector(path, recursive=True))
        found = sorted(
            info.path.removeprefix(path).lstrip("/")
            for info in infos
            if info.is_file and os.path.splitext(info.path)[1].lower() in suffixes
        )
        if not found:
            raise FileNotFoundError(f"{name} holds no images")
        files += [below(name, file) for file in found]
    return files


@dataclass(frozen=True)
class Work:
    """The settings that every actor needs.

    Attributes:
        open_model: opens the model, on the actor's machine.
        weights: the model's digest.
        out: the folder of results.
        threshold: as for `segment`.
        upright: as for `segment`.
        max_pixels: as for `segment`.
    """

    open_model: Callable[[], OpenedModel]
    weights: str
    out: str
    threshold: float | None
    upright: bool
    max_pixels: int


Job = tuple[str, bytes | None]
"""An image's path and its file, if that was read."""


class SegmentingActor:
    """A model on one device, which segments the images of tables, and writes the results."""

    def __init__(self, work: Work, done: Sequence[ray.ObjectRef]):
        """Opens the model.

        Args:
            work: what to do.
            done: a reference to the `Done` images.

        Raises:
            ValueError: the model isn't the same as on other machines.
        """
        set_max_pixels(work.max_pixels)
        self.work, self.parts = work, Parts.at(work.out)
        self.model = work.open_model()
        if self.model.weights != work.weights:
            raise ValueError(
                "the model's weights differ between machines; give all of them the same files"
            )
        self.done: Done = ray.get(done[0])

    def __call__(self, images: pa.Table) -> pa.Table:
        """Segments images, writes their rows, and returns the counts of each outcome.

        Raises:
            ValueError: the table has no column of paths.
        """
        if "path" not in images.column_names:
            raise ValueError(
                f"the dataset has no column path, only {', '.join(images.column_names)}; read "
                "images by ray.data.read_binary_files(paths, include_paths=True)"
            )
        encoded = images["bytes"].to_pylist() if "bytes" in images.column_names else None
        paths = images["path"].to_pylist()
        jobs: list[Job] = list(zip(paths, encoded or [None] * len(paths), strict=True))
        there = [job for job in jobs if self.done.content(job[0]) is not None]
        with ThreadPoolExecutor(THREADS) as pool:
            changes = [row for row in pool.map(self.change_of, there) if row is not None]
        todo = [job for job in jobs if self.done.content(job[0]) is None]
        rows = [*changes, *self.rows_of(todo)]
        if rows:
            self.parts.add(rows)
        errors = [row["error"] for row in rows if row["error"] is not None]
        return pa.table(
            {
                "finished": [len(rows) - len(errors)],
                "failed": [len(errors)],
                "skipped": [len(there) - len(changes)],
                "errors": pa.array([errors[:TOLD]], pa.list_(pa.string())),
            }
        )

    def change_of(self, job: Job) -> dict[str, Any] | None:
        """Returns a row with an error for a finished image whose file has changed; else None."""
        path, _ = job
        try:
            content = contents_of([digest_of(file_of(job)).hex()])[0]
        except (ValueError, OSError) as error:
            return failure(path, error)
        if content == self.done.content(path):
            return None
        return failure(
            path,
            ValueError(
                f"{path} has changed since it was segmented; segment it into another folder, or "
                "overwrite this one"
            ),
        )

    def rows_of(self, jobs: Sequence[Job]) -> list[dict[str, Any]]:
        """Returns a row for each image."""
        options: dict[str, Any] = {"threshold": self.work.threshold}
        if self.model.top_k is not None:
            options["top_k"] = self.model.top_k
        segment = functools.partial(
            run_pipeline,
            self.model.segmenter,
            self.model.task,
            read=self.read,
            finish=self.finish,
            **options,
        )
        return [
            failure(path, outcome) if isinstance(outcome, Exception) else outcome
            for (path, _), outcome in outcomes_of(lambda x: segment(jobs=x), jobs)
        ]

    def read(self, job: Job) -> tuple[Any, dict[str, Any]]:
        """Reads an image; returns it for the device, and its row as far as it is known."""
        path, _ = job
        data = file_of(job)
        pixels, pages = decode_image(data, path, upright=self.work.upright)
        height, width, _ = pixels.shape
        row = {"path": path, "digest": digest_of(data).hex(), "height": height, "width": width}
        return self.model.segmenter.prepare(pixels), row | {"pages": pages, "error": None}

    def finish(self, _: Job, row: dict[str, Any], segmentation: Segmentation) -> dict[str, Any]:
        """Returns an image's row."""
        return row | {"segments": segments_of(segmentation, self.model.labels)}


def file_of(job: Job) -> bytes:
    """Returns an image's file.

    Raises:
        FileNotFoundError: it is missing, or no regular file.
        ValueError: it can't be read.
    """
    path, data = job
    if data is not None:
        return data
    filesystem, place = find(path)
    if isinstance(filesystem, pyarrow.fs.LocalFileSystem):
        check_regular(place)
    try:
        with filesystem.open_input_stream(place) as file:
            return file.read()
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"{path} can't be read ({reason(error)})") from error


def failure(path: str, error: Exception) -> dict[str, Any]:
    """Returns the row of an image that failed."""
    text = str(error)
    first = text.splitlines()[0] if text else type(error).__name__
    return {"path": path, "error": first if path in first else f"{path}: {first}"}
