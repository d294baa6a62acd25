"""`m2f predict`: images are decoded ahead of the device, results are written behind it."""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from m2f_jax.cli.arguments import Predict
from m2f_jax.cli.environment.cache import programs_folder
from m2f_jax.cli.environment.dtype import say_if_slow
from m2f_jax.cli.predicting.annotated import AnnotatedIds
from m2f_jax.cli.predicting.finding import Found, find_images
from m2f_jax.cli.predicting.folder import (
    RUN_FILE,
    Picture,
    categories,
    digest_of_file,
    holding_folder,
    open_folder,
    remove,
    remove_combined,
    stored_results,
    write_combined,
)
from m2f_jax.cli.predicting.layout import file_stem, image_ids
from m2f_jax.cli.predicting.planning import Job, make_plan
from m2f_jax.cli.predicting.writing import WriteError, Writer, id_dtype
from m2f_jax.cli.terminal.console import error_text, terminal
from m2f_jax.cli.terminal.drawn_streets import advice
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.config import VideoMask2FormerConfig
from m2f_jax.default_dtype import default_dtype
from m2f_jax.images import count_pages, read_image
from m2f_jax.images.opening import check_regular
from m2f_jax.inference.export.exported_file import is_exported
from m2f_jax.inference.export.running import ExportedSegmenter
from m2f_jax.inference.opened import OpenedModel
from m2f_jax.inference.prefetching import run_pipeline
from m2f_jax.inference.results import Segmentation
from m2f_jax.pixel_limit import set_max_pixels

TOP_K = 100  # instances of an image, as COCO counts them
FOR_VIDEOS = ("clip_length", "clip_overlap")
FOR_RAY = ("parquet", "actors")
FOR_FILES = ("annotations", "boxes")
Outcomes = Generator[tuple[Job, list[str] | Exception], None, None]


def run(command: Predict) -> int:
    """Segments every image; returns 1 if one of them, or a part of the input, failed."""
    console = terminal()
    if command.video is not None:
        from m2f_jax.cli.predicting.video import run_video  # with SciPy's optimizers

        return run_video(command, command.video, console)
    check_options(command)
    if command.ray is not None and command.parquet:
        from m2f_jax.cli.predicting.on_ray import write_parquet  # ray is an extra

        return write_parquet(command, command.ray, open_model, settings_of, console)
    out = Path(command.out)
    findings = find_images(command.images, out)
    found, problems = findings.images, findings.problems
    annotated = None
    if command.annotations is not None:
        annotated = AnnotatedIds.read(Path(command.annotations))
        found, unknown = annotated.select(found)
        problems = [*problems, *unknown]
    for note in findings.notes:
        console.print(note)
    for problem in problems:
        complain(console, problem)
    if not found:
        return 1
    if command.ray is None:
        anew = command.overwrite or not (out / RUN_FILE).exists()
        model = open_model(command, found[0].path if anew else None)
    else:
        from m2f_jax.cli.predicting.on_ray import describe_model

        model = describe_model(command, command.ray, open_model, console)
    if model.task == "semantic":
        id_dtype(model.labels)
    with holding_folder(out, overwrite=command.overwrite):
        failed = fill_folder(command, model, found, annotated, console)
    return 1 if failed or problems else 0


def fill_folder(
    command: Predict,
    model: OpenedModel,
    found: Sequence[Found],
    annotated: AnnotatedIds | None,
    console: Console,
) -> int:
    """Segments what has no results in an output folder that is held; returns how many failed."""
    out = Path(command.out)
    source = {"model": command.model, "revision": command.revision}
    there = open_folder(
        out, settings_of(command, model), model.labels, source, overwrite=command.overwrite
    )
    plan = make_plan(found, there, out)
    if annotated is not None:
        annotated.check([picture.file_name for picture in there], out)
    if len(plan.todo) < len(found):
        console.print(f"{len(found) - len(plan.todo)} of {len(found)} images are done already")
    if plan.todo:
        remove_combined(out)
    for picture in plan.changed:
        console.print(f"{picture.source} has changed, and is done anew")
        remove(out, file_stem(picture.name))

    failed = segment_all(model, plan.todo, command, console)
    results = stored_results(out)
    names = {picture.file_name: picture.name for picture, _ in results}
    ids = image_ids(names) if annotated is None else annotated.ids
    write_combined(out, model.task, model.labels, results, ids, boxes=command.boxes)
    if others := len(set(names) - set(plan.file_names)):
        console.print(f"predictions.json also lists what earlier runs left, {others} in number")
    console.print(f"results are in {out}")
    if note := advice(command.model, "predict IMAGE..."):
        console.print(note)
    return failed


def check_options(command: Predict):
    """Refuses options that mean nothing for images, or not together.

    Raises:
        ValueError: one is named.
    """
    if not command.images:
        raise ValueError("no images were named; see m2f predict --help")
    for image in command.images:
        if "://" in image and not command.parquet:
            raise ValueError(
                f"{image} is a URI, which only --ray with --parquet reads; download it first"
            )
    for field in dataclasses.fields(Predict):
        name, changed = field.name, getattr(command, field.name) != field.default
        option = "--" + name.replace("_", "-")
        if changed and name in FOR_VIDEOS:
            raise ValueError(f"{option} is for a --video, not for images")
        if changed and name in FOR_RAY and command.ray is None:
            raise ValueError(f"{option} needs --ray, the address of a cluster, or --ray local")
        if changed and name in FOR_FILES and command.parquet:
            raise ValueError(f"{option} is for files, not for --parquet")


def open_model(command: Predict, first: Path | None = None) -> OpenedModel:
    """Opens a trained or an exported model.

    Args:
        command: the command.
        first: the image that will be segmented first, if that is known: a trained model's programs
            are compiled for it while its parameters are read.

    Raises:
        ValueError: a runtime is named for a model that isn't in an ONNX file.
    """
    set_max_pixels(command.max_pixels)  # on another machine, nobody else does
    as_onnx = command.model.endswith(".onnx")
    if command.runtime is not None and not as_onnx:
        raise ValueError(
            f"--runtime is for files that end with .onnx, not {command.model}; leave it out, or "
            "write such a file with m2f export"
        )
    if as_onnx:
        model = open_onnx(command)
    else:
        exported = is_exported(command.model)
        model = open_exported(command) if exported else open_checkpoint(command, first)
    say_if_slow(model.dtype)
    return model


def open_checkpoint(command: Predict, first: Path | None) -> OpenedModel:
    """Opens a trained model, on all devices; `first` as above."""
    from m2f_jax.inference.digest import digest_of_model
    from m2f_jax.inference.segmenter import Segmenter  # exported models do without these
    from m2f_jax.inference.tiling import TiledSegmenter, check_task
    from m2f_jax.pretrained import load

    dtype = command.dtype or default_dtype()
    opened = load(command.model, dtype, labels=command.labels, revision=command.revision)
    if isinstance(opened.config, VideoMask2FormerConfig):
        raise ValueError(
            f"{command.model} is a model of videos; give it a video with --video, or choose a "
            "model of images"
        )
    processor = opened.processor
    task = command.task or opened.config.task
    if command.native or command.tile is not None:
        processor = dataclasses.replace(processor, shortest_edge=None, longest_edge=None)
    top_k = TOP_K if command.top_k is None else command.top_k
    segmenter = Segmenter(
        opened.abstract, processor, jax.local_devices(), command.batch_size, programs_folder()
    )
    tiles = tiles_of(command)
    if first is not None and tiles is None:
        read = functools.partial(prepare_image, segmenter, not command.ignore_exif, first)
        segmenter.compile_ahead(read, task, top_k=top_k)
    segmenter.set_parameters(opened.model)
    weights = digest_of_model(opened.config, segmenter.parameters)
    if tiles is not None:
        check_task(task)
        segmenter = TiledSegmenter(segmenter, *tiles)
    return OpenedModel(
        segmenter,
        task,
        opened.labels,
        dtype,
        top_k,
        weights,
        repr(processor),
    )


def tiles_of(command: Predict) -> list[int] | None:
    """Returns the side of the tiles and what neighbours have in common; None without tiles."""
    if command.tile is None:
        return None
    return [command.tile, command.tile // 8 if command.overlap is None else command.overlap]


def open_exported(command: Predict) -> OpenedModel:
    """Opens an exported model, on all devices.

    Raises:
        ValueError: something else is asked of it than what it was exported for.
    """
    segmenter = ExportedSegmenter.load(command.model, jax.local_devices())
    header = segmenter.header
    refuse_settled(command, header.task, header.dtype, 1)
    return OpenedModel(segmenter, header.task, header.labels, header.dtype, None, header.digest, "")


def open_onnx(command: Predict) -> OpenedModel:
    """Opens an ONNX file that m2f export wrote.

    Raises:
        ValueError: something else is asked of it than what it was exported for.
    """
    from m2f_jax.inference.export.onnx.running import OnnxSegmenter  # needs an extra

    runtime = command.runtime or "onnxruntime"
    segmenter = OnnxSegmenter.load(
        command.model, runtime, command.dtype or "float32", command.batch_size
    )
    header, dtype = segmenter.header, segmenter.dtype
    refuse_settled(command, header.task, dtype, segmenter.batch_size)
    return OpenedModel(
        segmenter, header.task, header.labels, dtype, None, segmenter.digest, runtime
    )


def refuse_settled(command: Predict, task: str, dtype: str, batch_size: int):
    """Refuses options that say something else than what was settled when a model was exported.

    Raises:
        ValueError: the message names the option.
    """
    for name, asked, there in (
        ("--task", command.task, task),
        ("--dtype", command.dtype, dtype),
        ("--native", command.native or None, None),
        ("--tile", command.tile, None),
        ("--batch-size", command.batch_size, batch_size),
        ("--labels", command.labels, None),
        ("--revision", command.revision, None),
        ("--top-k", command.top_k, None),
    ):
        if asked not in (None, there):
            value = f", {there}" if there else ""
            raise ValueError(
                f"{command.model}: {name} was settled when the model was exported{value}; leave it "
                "out, or export the model again"
            )


def settings_of(command: Predict, model: OpenedModel) -> dict[str, Any]:
    """Returns all that results depend on besides the image, by name, as plain JSON values."""
    instance = model.task == "instance"
    return {
        "weights": model.weights,
        "labels": categories(model.labels),
        "processor": model.processor,
        "task": model.task,
        "threshold": command.threshold if instance else None,
        "top_k": model.top_k if instance else None,
        "dtype": model.dtype,
        "native": command.native,
        "tiles": tiles_of(command),
        "ignore_exif": command.ignore_exif,
    }


class Input(NamedTuple):
    """An image that was read, for drawing, with its file's digest, size and pages."""

    pixels: np.ndarray
    picture: Picture
    pages: int


def segment_all(model: OpenedModel, jobs: Sequence[Job], command: Predict, console: Console) -> int:
    """Segments images here or on a cluster, with a progress bar; returns how many failed."""
    failures: list[str] = []
    notes: list[str] = []
    if command.ray is None:
        outcomes = segment_here(model, command, jobs)
    else:
        from m2f_jax.cli.predicting import on_ray

        outcomes = on_ray.segment_all(command, start, jobs)
    try:
        with (
            ImageProgress("segmenting", len(jobs), console) as progress,
            contextlib.closing(outcomes),
        ):
            for job, outcome in outcomes:
                if isinstance(outcome, WriteError):  # the disk won't get better
                    raise outcome
                if isinstance(outcome, Exception):
                    failures.append(describe_failure(job, outcome))
                else:
                    notes += outcome
                progress.advance(ok=not isinstance(outcome, Exception))
    finally:
        for note in notes:
            console.print(note)
        for failure in failures:
            complain(console, failure)
    if failures:
        console.print(f"{len(failures)} of {len(jobs)} images failed", style="red")
    return len(failures)


def start(command: Predict) -> Callable[[Sequence[Job]], Outcomes]:
    """Opens the model, and returns what segments images with it and writes their results."""
    return functools.partial(segment_here, open_model(command), command)


def segment_here(model: OpenedModel, command: Predict, jobs: Sequence[Job]) -> Outcomes:
    """Yields each image with messages about it, once its results are written, or with its error."""
    options: dict[str, Any] = {"threshold": command.threshold}
    if model.top_k is not None:
        options["top_k"] = model.top_k
    return run_pipeline(
        model.segmenter,
        model.task,
        jobs,
        functools.partial(read_job, model.segmenter, not command.ignore_exif),
        functools.partial(finish_job, Writer(Path(command.out), model.task, model.labels)),
        **options,
    )


def prepare_image(segmenter: Any, upright: bool, path: Path) -> Any:
    """Reads an image for the model alone."""
    check_regular(str(path))
    return segmenter.prepare(read_image(path, upright=upright))


def read_job(segmenter: Any, upright: bool, job: Job) -> tuple[Any, Input]:
    """Reads an image, for the model and for drawing.

    Its file's digest is taken first: if the file changes meanwhile, the next run will see it.
    """
    check_regular(str(job.path))
    digest = digest_of_file(job.path)
    pixels = read_image(job.path, upright=upright)
    height, width, _ = pixels.shape
    picture = Picture(
        file_name=job.file_name,
        name=job.name,
        source=os.path.abspath(job.path),
        digest=digest,
        height=height,
        width=width,
    )
    return segmenter.prepare(pixels), Input(pixels, picture, count_pages(job.path))


def finish_job(writer: Writer, job: Job, read: Input, segmentation: Segmentation) -> list[str]:
    """Writes an image's results; returns messages about it."""
    notes = writer.write(read.picture, read.pixels, segmentation)
    if read.pages > 1:
        notes.append(f"{job.path}: the first of {read.pages} pages was segmented")
    return notes


def describe_failure(job: Job, error: Exception) -> str:
    """Returns an error as one line that names the image."""
    reason = error_text(error).replace("\n", "\\n")
    name = str(job.path).replace("\n", "\\n")
    return reason if name in reason else f"{name}: {reason}"


def complain(console: Console, message: str):
    """Prints what went wrong, on a line of its own."""
    console.print("m2f: " + message.replace("\n", "\\n"), style="red")
