"""`m2f eval`: a model, or predictions in files, against ground truth."""

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
from rich.console import Console

from m2f_jax.cli.arguments import (
    DEFAULT_MODEL,
    Eval,
    EvalCityscapes,
    EvalCoco,
    EvalCompare,
    EvalFolder,
    EvalImages,
    EvalOptions,
    EvalYtvis,
)
from m2f_jax.cli.environment.cache import cache_folder
from m2f_jax.cli.environment.processes import join_processes
from m2f_jax.cli.evaluating.comparing import compare_evaluations
from m2f_jax.cli.evaluating.scores import print_scores
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.config import Task
from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.datasets.opening import open_dataset
from m2f_jax.datasets.published.cityscapes import CityscapesDataset
from m2f_jax.datasets.published.ytvis import YtvisDataset, ytvis_dataset
from m2f_jax.default_dtype import default_dtype
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.analysis.tallies.tally import Tally
from m2f_jax.eval.evaluation import EvaluationError, evaluate
from m2f_jax.eval.metrics.coco.mask_ap import CocoMaskAP
from m2f_jax.eval.metrics.coco.tool import Tool
from m2f_jax.eval.predictions.cityscapes import find_predictions
from m2f_jax.eval.predictions.coco import find_coco_predictions
from m2f_jax.eval.predictions.files import PredictionFiles, measure_files
from m2f_jax.eval.predictions.ytvis_results import TrackResults
from m2f_jax.eval.report.pictures import Picture, save_pictures, worst_pictures
from m2f_jax.eval.report.writing import write_report
from m2f_jax.eval.results.evaluated import Evaluated
from m2f_jax.eval.results.headline import headline_scores
from m2f_jax.eval.results.published import Published
from m2f_jax.eval.running.digests import digest_of_files
from m2f_jax.eval.tasks import evaluation_of, matched_labels
from m2f_jax.images import read_image
from m2f_jax.inference.processor import FOR_DISPLAY
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.video_segmenter import VideoSegmenter
from m2f_jax.modeling.video_mask2former import VideoMask2Former
from m2f_jax.pretrained import load

Command = EvalCityscapes | EvalCoco | EvalFolder | EvalYtvis


def run(command: Eval) -> int:
    """Scores a model or files; returns 1 if an image failed, and then there is no result."""
    console = terminal()
    data = command.data
    if isinstance(data, EvalCompare):
        return compare_evaluations(data, console)
    join_processes(data.processes)
    if isinstance(data, EvalFolder):
        return run_folder(data, console)
    check_source(data)
    if isinstance(data, EvalCoco):
        return run_coco(data, console)
    if isinstance(data, EvalYtvis):
        return run_ytvis(data, console)
    return run_cityscapes(data, console)


def run_cityscapes(command: EvalCityscapes, console: Console) -> int:
    """`m2f eval cityscapes`."""
    task = command.task
    dataset = open_dataset(Path(command.root), command.split, task, layout="cityscapes")
    assert isinstance(dataset, CityscapesDataset)
    if command.predictions is not None:
        names = {item.name for item in dataset.images}
        items = dataset.images[: command.limit]
        files = find_predictions(Path(command.predictions), task, items, names)
        return score_files(command, dataset, task, files, console)
    return score_model(command, segmenter_of(command), dataset, task, console)


def run_coco(command: EvalCoco, console: Console) -> int:
    """`m2f eval coco`."""
    path, task = Path(command.annotations), command.task
    if command.boundary and (task != "instance" or command.out is None):
        raise ValueError("--boundary is for --task instance, and its numbers go to --out")
    if command.images is None and command.predictions is None:
        raise ValueError("name the folder of the images after the annotations, for the model")
    maps = Path(command.maps) if command.maps else None
    images = Path(command.images or "")
    dataset = coco_dataset(path, images, task, maps=maps, invalid=command.invalid)
    if task == "panoptic" and not dataset.panoptic:
        raise ValueError(f"{path} has objects; --task panoptic needs a panoptic file")
    if command.predictions is not None:
        items = dataset.images[: command.limit]
        files = find_coco_predictions(Path(command.predictions), task, items, dataset)
        return score_files(command, dataset, task, files, console)
    return score_model(command, segmenter_of(command), dataset, task, console)


def run_folder(command: EvalFolder, console: Console) -> int:
    """`m2f eval folder`, and those named after a published data set."""
    segmenter = segmenter_of(command)
    task = command.task or segmenter.config.task
    dataset = open_dataset(
        Path(command.root),
        command.split,
        task,
        invalid=command.invalid,
        layout=command.layout,
    )
    return score_model(command, segmenter, dataset, task, console)


def run_ytvis(command: EvalYtvis, console: Console) -> int:
    """`m2f eval ytvis`."""
    frames = None if command.frames is None else Path(command.frames)
    dataset = ytvis_dataset(Path(command.data), command.split, frames, command.invalid)
    if command.predictions is not None:
        files = TrackResults.find(Path(command.predictions), dataset)
        return score_files(command, dataset, "instance", files, console)
    if command.model is None:
        raise ValueError("name a model of videos with --model, or results with --predictions")
    opened = load(
        command.model,
        dtype_of(command),
        labels=command.labels,
        revision=command.revision,
        kind=VideoMask2Former,
    )
    assert isinstance(opened.model, VideoMask2Former)
    segmenter = VideoSegmenter(opened.model, opened.processor)
    return score_model(command, segmenter, dataset, "instance", console)


def check_source(command: EvalCityscapes | EvalCoco | EvalYtvis):
    """Raises a ValueError unless there is one thing to score."""
    if command.model is not None and command.predictions is not None:
        raise ValueError("name either --model or --predictions, not both")
    if command.predictions is not None and command.export is not None:
        raise ValueError("--export is for --model; the --predictions are in files already")
    if command.predictions is not None and jax.process_count() > 1:
        raise ValueError("--predictions are scored in seconds by one process; start only one")


def score_files(
    command: EvalCityscapes | EvalCoco | EvalYtvis,
    dataset: Dataset | YtvisDataset,
    task: Task,
    files: PredictionFiles,
    console: Console,
) -> int:
    """Scores predictions in files, and prints the result."""
    items = dataset.images[: command.limit]
    evaluation = evaluation_of(dataset, task, tool=tool_of(command, task))
    metric: Any = evaluation.empty()  # Any, because all parts are of this metric's kind
    with ImageProgress("scoring", len(items), console, unit_of(dataset)) as progress:
        if isinstance(metric, CocoMaskAP):  # of files that are read and checked as a whole
            for item in items:
                metric.add(item.id, *files.read(item))
            result = metric.result(progress.advance)
        else:
            for part in measure_files(evaluation, items, files):
                metric.merge(part)
                progress.advance()
            result = metric.result()
    truth = (path for i in range(len(items)) for path in dataset.files(i, task))
    evaluated = Evaluated(
        task=task,
        scores=headline_scores(result),
        published=Published(),
        images=len(items),
        settings={
            "task": task,
            "predictions": command.predictions,
            "predictions digest": digest_of_files(
                [*dict.fromkeys(files.path(item) for item in items)]
            ),
            "data": dataset.title,
            "data digest": digest_of_files([*dict.fromkeys(filter(Path.is_file, truth))]),
        },
        result=result,
        analysis=analyze(metric, result, **boundary_of(command)) if command.out else None,
    )
    if command.out is not None:
        evaluated.write(Path(command.out))

    def draw(tally: Tally) -> Sequence[Picture]:
        if isinstance(dataset, YtvisDataset):
            return ()
        return worst_pictures(evaluation, tally, lambda index: files.read(dataset.images[index]))

    return show(command.out, evaluated, console, draw)


def dtype_of(command: EvalOptions) -> str:
    """Returns the dtype of the computation."""
    return command.dtype or default_dtype()


def segmenter_of(command: EvalImages) -> Segmenter:
    """The model to score, on all devices of this process."""
    opened = load(
        command.model or DEFAULT_MODEL,
        dtype_of(command),
        labels=command.labels,
        revision=command.revision,
    )
    return Segmenter(opened.model, opened.processor, jax.local_devices(), command.batch_size)


def tool_of(command: Command, task: Task) -> Tool | None:
    """Returns the tool for COCO's numbers that is asked for.

    Raises:
        ValueError: the task has none.
    """
    tool = command.tool if isinstance(command, EvalCoco | EvalFolder) else None
    if tool is not None and task != "instance":
        raise ValueError(f"--tool {tool} computes AP; --task {task} has no such tool")
    return tool


def boundary_of(command: Command) -> dict[str, bool]:
    """The argument that asks for Boundary AP, where it is asked for."""
    return {"boundary": True} if isinstance(command, EvalCoco) and command.boundary else {}


def unit_of(dataset: Dataset | YtvisDataset) -> str:
    """Returns what messages call the items of a data set."""
    return "video" if isinstance(dataset, YtvisDataset) else "image"


def score_model(
    command: Command,
    segmenter: Segmenter | VideoSegmenter,
    dataset: Dataset | YtvisDataset,
    task: Task,
    console: Console,
) -> int:
    """Runs the model over the images that have no table yet, and prints the result of all."""
    with contextlib.ExitStack() as stack:
        bar: list[ImageProgress] = []

        def start(todo: int, ours: int):
            if todo < ours:
                console.print(f"{ours - todo} of {ours} {unit_of(dataset)}s are done already")
            bar.append(
                stack.enter_context(ImageProgress("evaluating", todo, console, unit_of(dataset)))
            )

        def finish():
            stack.close()
            stack.enter_context(console.status("computing the scores"))

        def advance(item: Any, error: Exception | None):
            if error is not None:
                place = "" if item.name in str(error) else f"{item.image}: "
                console.print(f"m2f: {place}{error}", style="red")
            bar[0].advance(ok=error is None)
            if bar[0].seen == bar[0].total:
                finish()

        try:
            evaluated = evaluate(
                segmenter,
                dataset,
                task=task,
                out=command.out,
                export=command.export,
                limit=command.limit,
                **boundary_of(command),
                tables=tables_folder(command.out),
                settings={"model": command.model or DEFAULT_MODEL},
                source=command.model,
                tool=tool_of(command, task),
                progress=advance,
                on_start=start,
            )
        except EvaluationError as error:
            stack.close()
            console.print(
                f"{error.summary}. The others are kept: mend those and run the same command again",
                style="red",
            )
            return 1
    if jax.process_index() != 0:
        return 0

    def draw(tally: Tally) -> Sequence[Picture]:
        if isinstance(dataset, YtvisDataset) or not isinstance(segmenter, Segmenter):
            return ()
        labels = matched_labels(segmenter.config.labels, dataset, task)
        evaluation: Any = evaluation_of(dataset, task, labels)
        model: Any = segmenter
        options = {"threshold": FOR_DISPLAY} if task == "instance" else {}

        def predict(index: int) -> Any:
            image = read_image(dataset.images[index].image)
            return evaluation.prediction(model(image, task, **options))

        return worst_pictures(evaluation, tally, predict)

    return show(command.out, evaluated, console, draw)


def show(
    out: str | None,
    evaluated: Evaluated,
    console: Console,
    draw: Callable[[Tally], Sequence[Picture]],
) -> int:
    """Prints the table, and writes report.html."""
    print_scores(evaluated.result, evaluated.published)
    if out is not None:
        assert evaluated.analysis is not None
        pictures = draw(evaluated.analysis.tally)
        save_pictures(Path(out), pictures)
        write_report(
            Path(out, "report.html"),
            evaluated.result,
            evaluated.analysis,
            title=f"{evaluated.task.capitalize()} segmentation of {evaluated.settings['data']}",
            settings={**evaluated.settings, **evaluated.provenance},
            published=evaluated.published,
            pictures=pictures,
        )
        console.print(f"results are in {out}")
    return 0


def tables_folder(out: str | None) -> Path | None:
    """Where finished tables are kept: in the output folder, else in the user's cache, if any."""
    if out is not None:
        return Path(out, "tables")
    cache = cache_folder()
    return None if cache is None else cache / "eval"
