"""`m2f eval`: a model, or predictions in files, against ground truth."""

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.table import Table

from m2f_jax.cli.arguments import EvalCityscapes
from m2f_jax.cli.progress import ImageProgress
from m2f_jax.config import Task
from m2f_jax.datasets.cityscapes import CityscapesImage, cityscapes_images
from m2f_jax.eval import CityscapesInstanceAP
from m2f_jax.eval.cityscapes import ENDINGS, check_labels, evaluation_of, read_ids
from m2f_jax.eval.cityscapes_files import find_predictions
from m2f_jax.eval.evaluate import (
    digest_of_files,
    digest_of_model,
    measure_all,
    merged,
    tables_of,
    unfinished,
)
from m2f_jax.presets import nearest_preset
from m2f_jax.segmenter import Segmenter

MAIN_SCORES = {"instance": ("AP", "AP50"), "panoptic": ("PQ",), "semantic": ("mIoU",)}


def run_cityscapes(command: EvalCityscapes) -> int:
    """`m2f eval cityscapes`: returns 1 if an image failed, and then gives no result."""
    if (command.model is None) == (command.predictions is None):
        raise ValueError("name either --model or --predictions")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    task: Task = command.task
    items = cityscapes_images(Path(command.root), command.split, ENDINGS[task])
    items = items[: command.limit]
    published: dict[str, float] = {}
    if command.predictions is not None:
        metric = score_files(Path(command.predictions), items, task, console)
        settings: dict[str, Any] = {"predictions": command.predictions}
    else:
        outcome = score_model(command, items, console)
        if outcome is None:
            return 1
        metric, settings, published = outcome
    result = metric.result()
    print_result(task, result, published)
    if command.out is not None:
        write_results(Path(command.out), task, result, settings, published)
        console.print(f"results are in {command.out}")
    return 0


def score_files(
    path: Path, items: Sequence[CityscapesImage], task: Task, console: Console
) -> CityscapesInstanceAP:
    """Instance AP of predictions in files."""
    if task != "instance":
        raise ValueError(f"--predictions scores instances only, not the {task} task")
    predictions = find_predictions(path, items)
    metric = CityscapesInstanceAP()
    with ImageProgress("scoring", len(items), console) as progress:
        for item in items:
            found = predictions.read(item)
            truth = read_ids(item.instance_ids)
            metric.add(truth, found.masks, found.labels, found.scores, image=item.name)
            progress.advance()
    return metric


def score_model(command: EvalCityscapes, items: Sequence[CityscapesImage], console: Console):
    """The metric of a model, the settings of the run, and what the authors published for it."""
    assert command.model is not None
    task: Task = command.task
    dtype = command.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    segmenter = Segmenter.from_pretrained(command.model, dtype, revision=command.revision)
    check_labels(segmenter.config, task)
    export = Path(command.export) if command.export else None
    evaluation = evaluation_of(task, segmenter.config.labels, export)
    truths = [getattr(item, attribute(ending)) for item in items for ending in ENDINGS[task]]
    settings = {
        "model": command.model,
        "model digest": digest_of_model(segmenter),
        "dtype": dtype,
        "device": jax.devices()[0].device_kind,
        "task": task,
        "data": f"{command.root}, {command.split}",
        "data digest": digest_of_files([*truths, *(item.image for item in items)]),
        "export": str(export) if export else None,
    }
    tables = tables_of(tables_folder(command), settings)
    todo = unfinished(tables, items)
    if len(todo) < len(items):
        console.print(f"{len(items) - len(todo)} of {len(items)} images are done already")
    failed = 0
    with ImageProgress("evaluating", len(todo), console) as progress:
        for item, error in measure_all(segmenter, evaluation, todo, tables):
            if error is not None:
                failed += 1
                place = "" if item.name in str(error) else f"{item.image}: "
                console.print(f"m2f: {place}{error}", style="red")
            progress.advance(ok=error is None)
    if failed:
        console.print(
            f"{failed} of {len(items)} images failed; there is no result without them. The others "
            "are kept: mend those and run the same command again",
            style="red",
        )
        return None
    preset = nearest_preset(segmenter.config)
    same = preset is not None and preset.config == segmenter.config
    return merged(evaluation, tables, items), settings, dict(preset.scores) if same else {}


def attribute(ending: str) -> str:
    """The property of `CityscapesImage` for a ground truth file."""
    return {"_instanceIds.png": "instance_ids", "_labelIds.png": "label_ids"}[ending]


def tables_folder(command: EvalCityscapes) -> Path:
    """Where finished tables are kept: in the output folder, else in the user's cache."""
    if command.out is not None:
        return Path(command.out, "tables")
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "m2f-jax", "eval")
