"""`m2f predict`: images are decoded ahead of the device, results are written behind it."""

import dataclasses
import functools
import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pycocotools.mask  # noqa: F401 - loaded before threads need it
from PIL import Image
from rich.console import Console

from m2f_jax.cli.arguments import Predict
from m2f_jax.cli.progress import ImageProgress
from m2f_jax.config import Task
from m2f_jax.files import read_json, write_json
from m2f_jax.images import read_image
from m2f_jax.inference.export.running import ExportedSegmenter, is_exported
from m2f_jax.inference.prefetching import run_pipeline
from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segmentation,
)
from m2f_jax.labels import Label
from m2f_jax.rle import encode_rle
from m2f_jax.visualization.drawing import draw_instances, draw_panoptic, draw_semantic

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp")
RUN_FILE = "run.json"


@dataclass(frozen=True)
class Job:
    """An image file and the name of its results."""

    path: Path
    name: str

    @property
    def image_id(self) -> int | str:
        """The file's name, or the number that it is, as in COCO."""
        return int(self.path.stem) if self.path.stem.isdigit() else self.name


def run(command: Predict) -> int:
    """Segments every image; returns 1 if one of them failed."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    if not command.images:
        raise ValueError("no images were named; see m2f predict --help")
    jobs, missing = find_images(command.images)
    for pattern in missing:
        console.print(f"m2f: {pattern} is missing, or holds no images", style="red")
    if not jobs:
        return 1
    open_model = open_exported if is_exported(command.model) else open_checkpoint
    segmenter, task, labels, dtype = open_model(command)
    settings = {
        "model": command.model,
        "revision": command.revision,
        "task": task,
        "threshold": command.threshold if task == "instance" else None,
        "dtype": dtype,
        "native": command.native,
    }
    out = Path(command.out)
    prepare_folder(out, settings, labels, overwrite=command.overwrite)
    todo = [job for job in jobs if not result_file(out, job).exists()]
    if len(todo) < len(jobs):
        console.print(f"{len(jobs) - len(todo)} of {len(jobs)} images are done already")

    writer = Writer(out, task, labels)
    failed = segment_all(segmenter, writer, todo, task, command.threshold, console)
    combine(out, task, labels, jobs)
    console.print(f"results are in {out}")
    return 1 if failed or missing else 0


class Model(NamedTuple):
    """What segments, as `Segmenter` does, and what is asked of it."""

    segmenter: Any
    task: Task
    labels: tuple[Label, ...]
    dtype: str


def open_checkpoint(command: Predict) -> Model:
    """The trained model, on all devices."""
    from m2f_jax.inference.segmenter import Segmenter  # exported models do without both
    from m2f_jax.pretrained import load

    dtype = command.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    opened = load(command.model, dtype, revision=command.revision)
    processor = opened.processor
    if command.native:
        processor = dataclasses.replace(processor, shortest_edge=None, longest_edge=None)
    segmenter = Segmenter(opened.model, processor, jax.local_devices(), command.batch_size)
    return Model(segmenter, command.task or opened.config.task, opened.labels, dtype)


def open_exported(command: Predict) -> Model:
    """The exported model, on all devices.

    Raises:
        ValueError: something else is asked of it than what it was exported for.
    """
    segmenter = ExportedSegmenter.load(command.model, jax.local_devices())
    header = segmenter.header
    for name, asked, there in (
        ("--task", command.task, header.task),
        ("--dtype", command.dtype, header.dtype),
        ("--native", command.native or None, None),
        ("--batch-size", None if command.batch_size == 1 else command.batch_size, None),
        ("--revision", command.revision, None),
    ):
        if asked not in (None, there):
            value = f", {there}" if there else ""
            raise ValueError(
                f"{command.model}: {name} was settled when the model was exported{value}; leave it "
                "out, or export the model again"
            )
    return Model(segmenter, header.task, header.labels, header.dtype)


def find_images(patterns: Sequence[str]) -> tuple[list[Job], list[str]]:
    """The images behind files, folders and globs, and the patterns that stand for none.

    Raises:
        ValueError: two images would have results of the same name.
    """
    jobs: dict[str, Job] = {}
    missing = []
    for pattern in patterns:
        path = Path(pattern)
        if path.is_dir():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            found = [Job(p, p.relative_to(path).with_suffix("").as_posix()) for p in files]
        else:
            names = [pattern] if path.exists() else sorted(glob.glob(pattern, recursive=True))
            found = [Job(Path(name), Path(name).stem) for name in names if Path(name).is_file()]
        if not found:
            missing.append(pattern)
        for job in found:
            other = jobs.setdefault(job.name, job)
            if other.path.resolve() != job.path.resolve():
                raise ValueError(
                    f"{other.path} and {job.path} would both become {job.name}; run them into "
                    "different --out folders, or name the folder that holds both"
                )
    return list(jobs.values()), missing


def prepare_folder(
    out: Path, settings: dict[str, Any], labels: Sequence[Label], *, overwrite: bool
):
    """Makes the output folder, or takes up an earlier run of the same settings.

    Raises:
        FileExistsError: it holds something else.
    """
    record = out / RUN_FILE
    if record.exists() and not overwrite:
        earlier = read_json(record)
        changed = [key for key in settings if settings[key] != earlier.get(key)]
        if changed:
            differences = ", ".join(
                f"{key} {earlier.get(key)} there, {settings[key]} now" for key in changed
            )
            raise FileExistsError(
                f"{out} holds results of other settings ({differences}); choose another --out, or "
                "pass --overwrite"
            )
    elif not overwrite and out.is_dir() and any(out.iterdir()):
        raise FileExistsError(
            f"{out} holds files that aren't of m2f predict; choose another --out, or pass "
            "--overwrite to write among them"
        )
    for folder in ("overlays", "results"):
        (out / folder).mkdir(parents=True, exist_ok=True)
    if overwrite:
        for path in (out / "results").rglob("*.json"):
            path.unlink()
    write_json(record, settings)
    write_json(out / "categories.json", categories(labels))


def segment_all(
    segmenter: Any,
    writer: "Writer",
    jobs: Sequence[Job],
    task: Task,
    threshold: float,
    console: Console,
) -> int:
    """Runs the pipeline with a progress bar; returns the number of images that failed."""
    failed = 0
    with ImageProgress("segmenting", len(jobs), console) as progress:
        read = functools.partial(read_job, segmenter)
        outcomes = run_pipeline(segmenter, task, jobs, read, writer.write, threshold=threshold)
        for job, outcome in outcomes:
            if isinstance(outcome, WriteError):  # the disk won't get better with the next image
                raise outcome
            if isinstance(outcome, Exception):
                failed += 1
                reason = str(outcome)
                place = "" if str(job.path) in reason else f"{job.path}: "
                console.print(f"m2f: {place}{reason}", style="red")
            progress.advance(ok=not isinstance(outcome, Exception))
    if failed:
        console.print(f"{failed} of {len(jobs)} images failed", style="red")
    return failed


def read_job(segmenter: Any, job: Job) -> tuple[Any, np.ndarray]:
    """The image, for the model and for drawing."""
    image = read_image(job.path)
    return segmenter.prepare(image), image


class WriteError(OSError):
    """Results can't be written."""


@dataclass(frozen=True)
class Writer:
    """Puts one image's results into files."""

    out: Path
    task: Task
    labels: tuple[Label, ...]

    def write(self, job: Job, image: np.ndarray, segmentation: Segmentation):
        """The overlay and the maps first, then the JSON, whose presence says that it is done.

        Raises:
            WriteError: the disk is full or may not be written to.
        """
        try:
            self.write_files(job, image, segmentation)
        except OSError as error:
            raise WriteError(
                error.errno, error.strerror, str(error.filename or self.out)
            ) from error

    def write_files(self, job: Job, image: np.ndarray, segmentation: Segmentation):
        """What `write` does."""
        names = [label.name for label in self.labels]
        if isinstance(segmentation, InstanceSegmentation):
            overlay = draw_instances(image, segmentation, names)
            result: Any = segmentation.to_coco(self.labels, job.image_id)
        elif isinstance(segmentation, PanopticSegmentation):
            overlay = draw_panoptic(image, segmentation, names)
            file_name = f"{job.name}.png"
            self.save(Image.fromarray(segmentation.to_rgb()), "maps", file_name)
            result = segmentation.to_coco(self.labels, job.image_id, file_name)
        else:
            overlay = draw_semantic(image, segmentation, names)
            ids = np.array([label.id for label in self.labels])[segmentation]
            self.save(Image.fromarray(ids.astype(np.uint8)), "maps", f"{job.name}.png")
            result = [
                {
                    "image_id": job.image_id,
                    "category_id": self.labels[k].id,
                    "segmentation": encode_rle(segmentation == k),
                }
                for k in np.unique(segmentation)
            ]
        self.save(Image.fromarray(overlay), "overlays", f"{job.name}.jpg", quality=92)
        path = result_file(self.out, job)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result, indent=None)

    def save(self, image: Image.Image, folder: str, name: str, **options: Any):
        """One picture, in a folder that is made if it isn't there."""
        path = self.out / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, **options)


def result_file(out: Path, job: Job) -> Path:
    """The JSON file of one image's results."""
    return out / "results" / f"{job.name}.json"


def categories(labels: Sequence[Label]) -> list[dict[str, Any]]:
    """The classes in COCO's form."""
    return [{"id": x.id, "name": x.name, "isthing": int(x.is_thing)} for x in labels]


def combine(out: Path, task: Task, labels: Sequence[Label], jobs: Sequence[Job]):
    """All finished images' results as the one file that COCO's tools read."""
    results = [read_json(path) for job in jobs if (path := result_file(out, job)).exists()]
    if task == "panoptic":
        images = [{"id": job.image_id, "file_name": job.path.name} for job in jobs]
        combined: Any = {
            "images": images,
            "annotations": results,
            "categories": categories(labels),
        }
    else:
        combined = [entry for result in results for entry in result]
    write_json(out / "predictions.json", combined, indent=None)
