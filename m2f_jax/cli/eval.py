"""`m2f eval`: a model, or predictions in files, against ground truth."""

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from m2f_jax.cli.arguments import Eval, EvalCityscapes, EvalCoco
from m2f_jax.cli.progress import ImageProgress
from m2f_jax.cli.scores import print_scores, scores_of
from m2f_jax.config import Mask2FormerConfig, read_json
from m2f_jax.datasets.cityscapes import CityscapesImage, cityscapes_images
from m2f_jax.eval import CityscapesInstanceAP
from m2f_jax.eval.cityscapes import ENDINGS, check_labels, evaluation_of, read_ids
from m2f_jax.eval.cityscapes_files import find_predictions
from m2f_jax.eval.coco import CocoInstances, CocoPanoptic, category_ids, coco_images
from m2f_jax.eval.coco_ap import CocoAnnotations
from m2f_jax.eval.evaluate import (
    Evaluation,
    digest_of_files,
    digest_of_model,
    measure_all,
    merged,
    tables_of,
    unfinished,
)
from m2f_jax.eval.instance_report_data import InstanceAPResult
from m2f_jax.eval.report import Picture, worst_pictures, write_report
from m2f_jax.labels import Label
from m2f_jax.presets import nearest_preset
from m2f_jax.segmenter import Segmenter


def run(command: Eval) -> int:
    """Returns 1 if an image failed; there is no result then."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    data = command.data
    if isinstance(data, EvalCoco):
        return run_coco(data, console)
    return run_cityscapes(data, console)


def run_cityscapes(command: EvalCityscapes, console: Console) -> int:
    """`m2f eval cityscapes`."""
    if (command.model is None) == (command.predictions is None):
        raise ValueError("name either --model or --predictions")
    endings = ENDINGS[command.task]
    items = cityscapes_images(Path(command.root), command.split, endings)[: command.limit]
    if command.predictions is not None:
        result = score_files(command, items, console).result()
        settings = {"predictions": command.predictions, "data": command.root}
        return finish(command.out, command.task, result, settings, {}, console)

    def prepare(config: Mask2FormerConfig) -> tuple[Evaluation, Mapping[str, Any]]:
        check_labels(config, command.task)
        export = Path(command.export) if command.export else None
        truths = [item.ground_truth_file(ending) for item in items for ending in endings]
        return evaluation_of(command.task, config.labels, export), {
            "task": command.task,
            "data": f"{command.root}, {command.split}",
            "data digest": digest_of_files([*truths, *(item.image for item in items)]),
            "export": command.export,
        }

    return score_model(command, items, prepare, console)


def run_coco(command: EvalCoco, console: Console) -> int:
    """`m2f eval coco`."""
    path, panoptic = Path(command.annotations), command.task == "panoptic"
    items = coco_images(path, Path(command.images), panoptic=panoptic)[: command.limit]
    categories = read_json(path)["categories"]

    def prepare(config: Mask2FormerConfig) -> tuple[Evaluation, Mapping[str, Any]]:
        ids = np.array(category_ids(config.labels, categories))
        maps = Path(command.maps) if command.maps else path.with_suffix("")
        labels = tuple(
            Label(id=c["id"], name=c["name"], is_thing=bool(c.get("isthing", 1)))
            for c in categories
        )
        evaluation = (
            CocoPanoptic(labels, ids, maps)
            if panoptic
            else CocoInstances(CocoAnnotations.of(path), ids)
        )
        return evaluation, {
            "task": command.task,
            "data": command.annotations,
            "data digest": digest_of_files([path, *(item.image for item in items)]),
        }

    return score_model(command, items, prepare, console)


def score_files(
    command: EvalCityscapes, items: Sequence[CityscapesImage], console: Console
) -> CityscapesInstanceAP:
    """Instance AP of predictions in files."""
    assert command.predictions is not None
    if command.task != "instance":
        raise ValueError(f"--predictions scores instances only, not the {command.task} task")
    predictions = find_predictions(Path(command.predictions), items)
    metric = CityscapesInstanceAP()
    with ImageProgress("scoring", len(items), console) as progress:
        for item in items:
            found = predictions.read(item)
            truth = read_ids(item.instance_ids)
            metric.add(truth, found.masks, found.labels, found.scores, image=item.name)
            progress.advance()
    return metric


def score_model(
    command: EvalCityscapes | EvalCoco,
    items: Sequence[Any],
    prepare: Callable[[Mask2FormerConfig], tuple[Evaluation, Mapping[str, Any]]],
    console: Console,
) -> int:
    """Runs the model over the images that have no table yet, and prints the result of all."""
    assert command.model is not None
    dtype = command.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    segmenter = Segmenter.from_pretrained(
        command.model, dtype, revision=command.revision, devices=jax.local_devices()
    )
    evaluation, data = prepare(segmenter.config)
    settings = {
        "model": command.model,
        "model digest": digest_of_model(segmenter),
        "dtype": dtype,
        "device": jax.devices()[0].device_kind,
        **data,
    }
    tables = tables_of(tables_folder(command.out), settings)
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
            f"{failed} of {len(items)} images failed, and there is no result without them. The "
            "others are kept: mend those and run the same command again",
            style="red",
        )
        return 1
    preset = nearest_preset(segmenter.config)
    same = preset is not None and preset.config == segmenter.config
    published = dict(preset.scores) if preset is not None and same else {}
    result = merged(evaluation, tables, items).result()
    pictures = tuple
    if isinstance(result, InstanceAPResult):
        pictures = functools.partial(worst_pictures, segmenter, items, result)
    return finish(command.out, command.task, result, settings, published, console, pictures)


def finish(
    out: str | None,
    task: str,
    result: Any,
    settings: Mapping[str, Any],
    published: Mapping[str, float],
    console: Console,
    pictures: Callable[[], Sequence[Picture]] = tuple,
) -> int:
    """Prints the table; writes results.json and report.html: the numbers and what they are of."""
    print_scores(result, published)
    if out is not None:
        folder = Path(out)
        folder.mkdir(parents=True, exist_ok=True)
        values = {
            "task": task,
            "scores": scores_of(result),
            "published": dict(published),
            "settings": dict(settings),
            "official": result.to_json(),
        }
        temporary = folder / "results.json.tmp"
        temporary.write_text(json.dumps(values, indent=2) + "\n")
        os.replace(temporary, folder / "results.json")
        write_report(
            folder / "report.html",
            result,
            title=f"{task.capitalize()} segmentation of {settings['data']}",
            settings=settings,
            published=published,
            pictures=pictures(),
        )
        console.print(f"results are in {folder}")
    return 0


def tables_folder(out: str | None) -> Path:
    """Where finished tables are kept: in the output folder, else in the user's cache."""
    if out is not None:
        return Path(out, "tables")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "m2f-jax", "eval")
