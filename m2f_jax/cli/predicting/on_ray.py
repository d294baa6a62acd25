"""`m2f predict --ray`: segments images by actors of a Ray cluster."""

import dataclasses
import functools
import os
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from rich.console import Console

from m2f_jax.cli.arguments import Predict
from m2f_jax.cli.predicting.finding import find_images
from m2f_jax.cli.predicting.planning import Job
from m2f_jax.cli.predicting.writing import WriteError
from m2f_jax.cli.terminal.console import error_text
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.default_dtype import slow_bfloat16
from m2f_jax.inference.export.exported_file import is_exported
from m2f_jax.inference.opened import OpenedModel
from m2f_jax.ray import Segmented
from m2f_jax.ray.outcomes import outcomes_of
from m2f_jax.ray.pools import Pool, connect, in_task, on_actors, table_of
from m2f_jax.ray.segmenting import describe, list_images, segment_by

BATCH = 64  # images that an actor takes at a time, and does again if it dies

Outcomes = Generator[tuple[Job, list[str] | Exception], None, None]
OpenModel = Callable[[Predict], OpenedModel]
Start = Callable[[Predict], Callable[[Sequence[Job]], Outcomes]]


def describe_model(
    command: Predict, address: str, open_model: OpenModel, console: Console
) -> OpenedModel:
    """Connects to the cluster, and returns a description of the model, without its segmenter.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: there is no such cluster, or the model can't be used.
    """
    connect(address)
    say_if_slow(command, console)
    return in_task(describe, functools.partial(open_model, elsewhere(command)))


def elsewhere(command: Predict) -> Predict:
    """Returns a command for the cluster's machines, with absolute paths and their default dtype."""
    changes = {
        field: os.path.abspath(value)
        for field in ("model", "labels")
        if (value := getattr(command, field)) is not None and os.path.exists(value)
    }
    settled = command.model.endswith(".onnx") or is_exported(command.model)
    if command.dtype is None and not settled:
        changes["dtype"] = "bfloat16" if pool_of(command).has_accelerators else "float32"
    return dataclasses.replace(command, out=os.path.abspath(command.out), **changes)


def say_if_slow(command: Predict, console: Console):
    """Prints that a processor of the cluster lacks instructions for bfloat16, where it does."""
    if command.dtype != "bfloat16" or pool_of(command).has_accelerators:
        return
    if note := in_task(slow_bfloat16, command.dtype):
        console.print(note)


def pool_of(command: Predict) -> Pool:
    """Returns the actors of a command."""
    return Pool.of_cluster(command.actors)


def segment_all(command: Predict, start: Start, jobs: Sequence[Job]) -> Outcomes:
    """Yields each image, in any order, with messages about it or its error.

    Args:
        command: what to do.
        start: opens the model on an actor's machine, and returns what segments images there.
        jobs: the images.
    """
    if not jobs:
        return
    by_name = {job.file_name: job for job in jobs}
    pool = pool_of(command)
    size = max(1, min(BATCH, -(-len(jobs) // pool.actors)))
    columns = {
        "path": [os.path.abspath(job.path) for job in jobs],
        "file_name": [job.file_name for job in jobs],
        "name": [job.name for job in jobs],
    }
    arguments = start, elsewhere(command)
    for row in on_actors(table_of(columns, size), PredictingActor, arguments, pool, size):
        job = by_name[row["file_name"]]
        if row["error"] is None:
            yield job, row["notes"]
        else:
            yield job, (WriteError if row["of_the_disk"] else ValueError)(row["error"])


class PredictingActor:
    """A model on one device, which segments images as `m2f predict` does."""

    def __init__(self, start: Start, command: Predict):
        """Opens the model."""
        self.segment = start(command)

    def __call__(self, images: pa.Table) -> pa.Table:
        """Segments images and writes their results; returns each one's messages or error."""
        jobs = [Job(Path(row["path"]), row["file_name"], row["name"]) for row in images.to_pylist()]
        rows = [
            {
                "file_name": job.file_name,
                "notes": [] if isinstance(outcome, Exception) else outcome,
                "error": error_text(outcome) if isinstance(outcome, Exception) else None,
                "of_the_disk": isinstance(outcome, WriteError),
            }
            for job, outcome in outcomes_of(self.segment, jobs)
        ]
        fields = [pa.string(), pa.list_(pa.string()), pa.string(), pa.bool_()]
        return pa.Table.from_pylist(rows, pa.schema(zip(rows[0], fields, strict=True)))


def write_parquet(
    command: Predict,
    address: str,
    open_model: OpenModel,
    settings_of: Callable[[Predict, OpenedModel], Mapping[str, Any]],
    console: Console,
) -> int:
    """Segments images into Parquet files; returns 1 if one of them, or a part of the input, failed.

    Args:
        command: what to do.
        address: the address of the cluster.
        open_model: opens the model, on any machine.
        settings_of: returns what results depend on besides the image.
        console: where messages are printed.
    """
    remote = [name for name in command.images if "://" in name]
    findings = find_images([x for x in command.images if x not in remote], Path(command.out))
    for note in findings.notes:
        console.print(note)
    for problem in findings.problems:
        console.print(f"m2f: {problem}", style="red")
    paths = [*(image.source for image in findings.images), *list_images(remote)]
    if not paths:
        return 1
    connect(address)
    say_if_slow(command, console)
    with ImageProgress("segmenting", len(paths), console) as progress:

        def advance(part: Segmented):
            progress.advance(part.finished + part.skipped)
            if part.failed:
                progress.advance(part.failed, ok=False)

        done = segment_by(
            functools.partial(open_model, elsewhere(command)),
            paths,
            command.out,
            functools.partial(settings_of, command),
            {"model": command.model, "revision": command.revision},
            threshold=command.threshold,
            upright=not command.ignore_exif,
            max_pixels=command.max_pixels,
            pool=pool_of(command),
            overwrite=command.overwrite,
            progress=advance,
        )
    if done.skipped:
        console.print(f"{done.skipped} of {len(paths)} images are done already")
    for error in done.errors:
        console.print(f"m2f: {error}", style="red")
    if done.failed:
        console.print(
            f"{done.failed} of {len(paths)} images failed, for the reasons in failed/", style="red"
        )
    console.print(f"results are in {command.out}")
    return 1 if done.failed or findings.problems else 0
