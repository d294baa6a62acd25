"""`m2f eval`: a model, or predictions in files, against ground truth.

What needs a model, and so JAX, is imported where it is called: files are scored without.
"""

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
