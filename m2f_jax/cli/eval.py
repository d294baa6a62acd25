"""`m2f eval`: a model, or predictions in files, against ground truth."""

import functools
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from m2f_jax.cli.arguments import DEFAULT_MODEL, Eval, EvalCityscapes, EvalCoco
from m2f_jax.cli.processes import join_processes
from m2f_jax.cli.progress import ImageProgress
from m2f_jax.cli.scores import print_scores, scores_of
from m2f_jax.config import read_json
from m2f_jax.datasets.cityscapes import cityscapes_images
from m2f_jax.eval.cityscapes import ENDINGS, check_labels, evaluation_of
from m2f_jax.eval.coco import (
    CocoInstances,
    CocoPanoptic,
    coco_images,
    find_coco_predictions,
    labels_as,
    labels_of,
)
from m2f_jax.eval.evaluate import (
    Evaluation,
    digest_of_files,
    digest_of_model,
    from_bytes,
    measure_all,
    merged,
    tables_of,
    to_bytes,
    unfinished,
)
from m2f_jax.eval.instances_on_device import InstancesOnDevice
from m2f_jax.eval.metrics.coco_annotations import CocoAnnotations
from m2f_jax.eval.metrics.instance_report_data import InstanceAPResult
from m2f_jax.eval.predictions.cityscapes import find_predictions
from m2f_jax.eval.predictions.exports import finish_panoptic, finish_results
from m2f_jax.eval.predictions.files import FileEvaluation, PredictionFiles, measure_files
from m2f_jax.eval.processes import exchange, share_of
from m2f_jax.eval.report.writing import (
    Picture,
    worst_pictures,
    worst_pictures_of_files,
    write_report,
)
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import CITYSCAPES, Label
from m2f_jax.presets import nearest_preset


def run(command: Eval) -> int:
    """Returns 1 if an image failed; there is no result then."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    data = command.data
    join_processes(data.processes)
    if isinstance(data, EvalCoco):
        return run_coco(data, console)
    return run_cityscapes(data, console)


def run_cityscapes(command: EvalCityscapes, console: Console) -> int:
    """`m2f eval cityscapes`."""
    check_source(command)
    task, endings = command.task, ENDINGS[command.task]
    known = cityscapes_images(Path(command.root), command.split, endings)
    items = known[: command.limit]
    data = f"{command.root}, {command.split}"
    if command.predictions is not None:
        names = {item.name for item in known}
        files = find_predictions(Path(command.predictions), task, items, names)
        evaluation = evaluation_of(task, CITYSCAPES, None)
        return score_files(command, evaluation, items, files, data, console)
    export = Path(command.export) if command.export else None
    if export is not None and task == "panoptic":
        export = export / f"cityscapes_panoptic_{command.split}"  # as the official script has it

    def prepare(segmenter: Segmenter) -> tuple[Evaluation, Mapping[str, Any]]:
        labels = segmenter.config.labels
        check_labels(segmenter.config, task)
        evaluation = evaluation_of(task, labels, export)
        # On a CPU, masks are counted faster where they are.
        if task == "instance" and export is None and jax.default_backend() != "cpu":
            evaluation = InstancesOnDevice(labels, segmenter.processor)
        truths = [item.ground_truth_file(ending) for item in items for ending in endings]
        return evaluation, {
            "task": task,
            "data": data,
            "data digest": digest_of_files([*truths, *(item.image for item in items)]),
            "export": command.export,
        }

    code = score_model(command, items, prepare, console)
    if code == 0 and export is not None and task == "panoptic" and jax.process_index() == 0:
        file = export.with_name(f"{export.name}.json")
        finish_panoptic(file, export, [item.name for item in items], CITYSCAPES)
    return code


def run_coco(command: EvalCoco, console: Console) -> int:
    """`m2f eval coco`."""
    check_source(command)
    path, panoptic = Path(command.annotations), command.task == "panoptic"
    known = coco_images(path, Path(command.images), panoptic=panoptic)
    items = known[: command.limit]
    categories = labels_of(read_json(path)["categories"])
    maps = Path(command.maps) if command.maps else path.with_suffix("")
    export = Path(command.export, "predictions") if command.export else None

    def evaluation_for(labels: Sequence[Label]) -> CocoInstances | CocoPanoptic:
        if panoptic:
            return CocoPanoptic(categories, tuple(labels), maps, export)
        return CocoInstances(CocoAnnotations.of(path), tuple(labels), export)

    if command.predictions is not None:
        evaluation = evaluation_for(categories)
        files = find_coco_predictions(Path(command.predictions), evaluation, items, known)
        return score_files(command, evaluation, items, files, command.annotations, console)

    def prepare(segmenter: Segmenter) -> tuple[Evaluation, Mapping[str, Any]]:
        return evaluation_for(labels_as(segmenter.config.labels, categories)), {
            "task": command.task,
            "data": command.annotations,
            "data digest": digest_of_files([path, *(item.image for item in items)]),
            "export": command.export,
        }

    code = score_model(command, items, prepare, console)
    if code == 0 and export is not None and jax.process_index() == 0:
        file, names = export.with_suffix(".json"), [item.name for item in items]
        if panoptic:
            finish_panoptic(file, export, names, categories)
        else:
            finish_results(file, export, names)
    return code


def check_source(command: EvalCityscapes | EvalCoco):
    """Raises a ValueError unless there is one thing to score."""
    if command.model is not None and command.predictions is not None:
        raise ValueError("name either --model or --predictions, not both")
    if command.predictions is not None and command.export is not None:
        raise ValueError("--export is for --model; the --predictions are in files already")
    if command.predictions is not None and jax.process_count() > 1:
        raise ValueError("--predictions are scored in seconds by one process; start only one")


def score_files(
    command: EvalCityscapes | EvalCoco,
    evaluation: FileEvaluation,
    items: Sequence[Any],
    files: PredictionFiles,
    data: str,
    console: Console,
) -> int:
    """Scores predictions in files, and prints the result."""
    metric = evaluation.empty()
    with ImageProgress("scoring", len(items), console) as progress:
        for part in measure_files(evaluation, items, files):
            metric.merge(part)
            progress.advance()
    settings = {"task": command.task, "predictions": command.predictions, "data": data}
    result, pictures = metric.result(), tuple
    if isinstance(result, InstanceAPResult):
        pictures = functools.partial(worst_pictures_of_files, files, items, result)
    return finish(command.out, command.task, result, settings, {}, console, pictures)


def score_model(
    command: EvalCityscapes | EvalCoco,
    items: Sequence[Any],
    prepare: Callable[[Segmenter], tuple[Evaluation, Mapping[str, Any]]],
    console: Console,
) -> int:
    """Runs the model over the images that have no table yet, and prints the result of all."""
    source = command.model or DEFAULT_MODEL
    dtype = command.dtype or ("float32" if jax.default_backend() == "cpu" else "bfloat16")
    segmenter = Segmenter.from_pretrained(
        source,
        dtype,
        revision=command.revision,
        devices=jax.local_devices(),
        batch_size=command.batch_size,
    )
    evaluation, data = prepare(segmenter)
    settings = {
        "model": source,
        "model digest": digest_of_model(segmenter),
        "dtype": dtype,
        "device": jax.devices()[0].device_kind,
        "batch size": command.batch_size,
        **data,
    }
    tables = tables_of(tables_folder(command.out), settings)
    ours = share_of(items)
    todo = unfinished(tables, ours)
    if len(todo) < len(ours):
        console.print(f"{len(ours) - len(todo)} of {len(ours)} images are done already")
    failed = 0
    with ImageProgress("evaluating", len(todo), console) as progress:
        for item, error in measure_all(segmenter, evaluation, todo, tables):
            if error is not None:
                failed += 1
                place = "" if item.name in str(error) else f"{item.image}: "
                console.print(f"m2f: {place}{error}", style="red")
            progress.advance(ok=error is None)
    failed = sum(int(count) for count in exchange(str(failed).encode()))
    if failed:
        console.print(
            f"{failed} of {len(items)} images failed, and there is no result without them. The "
            "others are kept: mend those and run the same command again",
            style="red",
        )
        return 1
    check_same(settings)
    metric = evaluation.empty()
    for part in exchange(to_bytes(merged(evaluation, tables, ours))):
        metric.merge(from_bytes(evaluation, part))
    if jax.process_index() != 0:
        return 0
    preset = nearest_preset(segmenter.config)
    same = preset is not None and preset.config == segmenter.config
    published = dict(preset.scores) if preset is not None and same else {}
    result = metric.result()
    pictures = tuple
    if isinstance(result, InstanceAPResult):
        pictures = functools.partial(worst_pictures, segmenter, items, result)
    return finish(command.out, command.task, result, settings, published, console, pictures)


def check_same(settings: Mapping[str, Any]):
    """Refuses to merge what the processes measured of different things.

    Raises:
        ValueError: a setting differs.
    """
    # Copies of the files on other machines may have other times.
    ours = {name: value for name, value in settings.items() if name != "data digest"}
    others = [json.loads(text) for text in exchange(json.dumps(ours).encode())]
    for i, other in enumerate(others):
        different = [name for name in ours if other.get(name) != others[0].get(name)]
        if different:
            raise ValueError(
                f"process {i} evaluates something else than process 0: its {different[0]} is "
                f"{other.get(different[0])}, not {others[0].get(different[0])}; start all "
                "processes with the same command, model and data"
            )


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
