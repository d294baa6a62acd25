"""Scores predictions in files, without JAX; only what is printed is computed."""

from typing import Any

from m2f_jax.cli.evaluating.scores import print_scores
from m2f_jax.cli.evaluating.scoring import Scoring
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.eval.analysis.boundary import boundary_measure
from m2f_jax.eval.metrics.coco.mask_ap import CocoMaskAP
from m2f_jax.eval.predictions.files import PredictionFiles, measure_files
from m2f_jax.eval.results.published import Published
from m2f_jax.eval.tasks import evaluation_of


def score_files(scoring: Scoring, predictions: str, files: PredictionFiles) -> int:
    """Scores the predictions of each image, shows the result, and returns 0.

    With --out, what lies behind the result is computed and written too.

    Args:
        scoring: what was asked for.
        predictions: the path that was named.
        files: what was found there.
    """
    dataset, task, out = scoring.dataset, scoring.task, scoring.command.out
    items = dataset.images[: scoring.command.limit]
    evaluation = evaluation_of(dataset, task, tool=scoring.tool, boundary=scoring.boundary)
    metric: Any = evaluation.empty()  # Any, because all parts are of this metric's kind
    with ImageProgress("scoring", len(items), scoring.console, scoring.unit) as progress:
        if isinstance(metric, CocoMaskAP):  # its files are read and checked as a whole
            for item in items:
                metric.add(item.id, *files.read(item))
            result = metric.result(progress.advance)
        else:
            for part in measure_files(evaluation, items, files):
                metric.merge(part)
                progress.advance()
            result = metric.result()
    boundary = None
    if scoring.boundary:
        with scoring.console.status("scoring boundaries"):
            boundary = boundary_measure(metric)
    if out is None:
        print_scores(result, Published(), boundary)
    else:
        from m2f_jax.cli.evaluating.file_results import keep

        keep(scoring, predictions, files, evaluation, metric, result, boundary)
    return 0
