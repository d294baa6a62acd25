"""`m2f eval`: a model, or predictions in files, against ground truth.

What needs a model, and so JAX, is imported where it is called: files are scored without.
"""

import gc
from pathlib import Path

from rich.console import Console

from m2f_jax.cli.arguments import (
    Eval,
    EvalCityscapes,
    EvalCoco,
    EvalCompare,
    EvalFolder,
    EvalYtvis,
)
from m2f_jax.cli.environment.processes import join_processes
from m2f_jax.cli.evaluating.files import score_files
from m2f_jax.cli.evaluating.reading import open_coco, read_instances
from m2f_jax.cli.evaluating.scoring import Scoring
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.datasets.opening import open_dataset
from m2f_jax.datasets.published.cityscapes import CityscapesDataset
from m2f_jax.datasets.published.ytvis import ytvis_dataset
from m2f_jax.eval.predictions.cityscapes import find_predictions
from m2f_jax.eval.predictions.coco import find_coco_predictions, results_file
from m2f_jax.eval.predictions.ytvis_results import TrackResults
from m2f_jax.files import without_collection


def run(command: Eval) -> int:
    """Scores a model or files; returns 1 if an image failed, and then there is no result."""
    console = terminal()
    data = command.data
    if isinstance(data, EvalCompare):
        from m2f_jax.cli.evaluating.comparing import compare_evaluations

        return compare_evaluations(data, console)
    processes = join_processes(data.processes)
    if isinstance(data, EvalFolder):
        return run_folder(data, console)
    check_source(data, processes)
    if isinstance(data, EvalCoco):
        return run_coco(data, console)
    if isinstance(data, EvalYtvis):
        return run_ytvis(data, console)
    return run_cityscapes(data, console)


def run_cityscapes(command: EvalCityscapes, console: Console) -> int:
    """Scores on a Cityscapes tree."""
    task = command.task
    dataset = open_dataset(Path(command.root), command.split, task, layout="cityscapes")
    assert isinstance(dataset, CityscapesDataset)
    scoring = Scoring(command, dataset, task, console)
    if command.predictions is not None:
        names = {item.name for item in dataset.images}
        items = dataset.images[: command.limit]
        files = find_predictions(Path(command.predictions), task, items, names)
        return score_files(scoring, command.predictions, files)
    from m2f_jax.cli.evaluating.model import score_model, segmenter_of

    return score_model(scoring, segmenter_of(command))


def run_coco(command: EvalCoco, console: Console) -> int:
    """Scores on a file of annotations in COCO's format."""
    task = command.task
    if command.predictions is not None:
        return score_coco_files(command, Path(command.predictions), console)
    if command.images is None:
        raise ValueError("name the folder of the images after the annotations, for the model")
    from m2f_jax.cli.evaluating.model import score_model, segmenter_of

    scoring = Scoring(command, open_coco(command), task, console)
    return score_model(scoring, segmenter_of(command))


def score_coco_files(command: EvalCoco, predictions: Path, console: Console) -> int:
    """Scores predictions in files on a file of annotations in COCO's format."""
    task, fields = command.task, None
    if task == "instance":
        with without_collection():
            dataset, fields = read_instances(command, results_file(predictions))
            gc.freeze()  # millions of values that are needed to the end
    else:
        dataset = open_coco(command)
    items = dataset.images[: command.limit]
    files = find_coco_predictions(predictions, task, items, dataset, fields)
    return score_files(Scoring(command, dataset, task, console), str(predictions), files)


def run_folder(command: EvalFolder, console: Console) -> int:
    """Scores on a folder that `m2f train` accepts: `m2f eval folder`, `ade20k` and so on."""
    from m2f_jax.cli.evaluating.model import score_model, segmenter_of

    segmenter = segmenter_of(command)
    task = command.task or segmenter.config.task
    dataset = open_dataset(
        Path(command.root),
        command.split,
        task,
        invalid=command.invalid,
        layout=command.layout,
    )
    return score_model(Scoring(command, dataset, task, console), segmenter)


def run_ytvis(command: EvalYtvis, console: Console) -> int:
    """Scores on videos in YouTubeVIS's format."""
    frames = None if command.frames is None else Path(command.frames)
    dataset = ytvis_dataset(Path(command.data), command.split, frames, command.invalid)
    scoring = Scoring(command, dataset, "instance", console)
    if command.predictions is not None:
        files = TrackResults.find(Path(command.predictions), dataset)
        return score_files(scoring, command.predictions, files)
    if command.model is None:
        raise ValueError("name a model of videos with --model, or results with --predictions")
    from m2f_jax.cli.evaluating.model import score_model, video_segmenter_of

    return score_model(scoring, video_segmenter_of(command, command.model))


def check_source(command: EvalCityscapes | EvalCoco | EvalYtvis, processes: int):
    """Refuses options of models together with options of predictions in files.

    Args:
        command: the options.
        processes: how many processes do the same.

    Raises:
        ValueError: the message names the options.
    """
    if command.model is not None and command.predictions is not None:
        raise ValueError("name either --model or --predictions, not both")
    if command.predictions is not None and command.export is not None:
        raise ValueError("--export is for --model; the --predictions are in files already")
    if command.predictions is not None and processes > 1:
        raise ValueError("--predictions are scored in seconds by one process; start only one")
