"""Keeps the result of predictions in files: all numbers, what lies behind them, and the report."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2f_jax.cli.evaluating.scoring import Scoring
from m2f_jax.cli.evaluating.showing import show
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.analysis.boundary import BoundaryMeasure
from m2f_jax.eval.analysis.tallies.tally import Tally
from m2f_jax.eval.predictions.files import PredictionFiles
from m2f_jax.eval.report.pictures import Picture, worst_pictures
from m2f_jax.eval.results.evaluated import Evaluated
from m2f_jax.eval.results.headline import scores_of
from m2f_jax.eval.results.published import Published
from m2f_jax.eval.running.file_digest import digest_of_files
from m2f_jax.eval.tasks import Evaluation


def keep(
    scoring: Scoring,
    predictions: str,
    files: PredictionFiles,
    evaluation: Evaluation,
    metric: Any,
    result: Any,
    boundary: BoundaryMeasure | None,
):
    """Writes a result with its analysis and report into the output folder, and shows it.

    Args:
        scoring: what was asked for.
        predictions: the path that was named.
        files: what was found there.
        evaluation: what scored them.
        metric: all images.
        result: the metric's result.
        boundary: its boundary measure, if it was asked for.
    """
    dataset, task, out = scoring.dataset, scoring.task, Path(scoring.command.out or "")
    items = dataset.images[: scoring.command.limit]
    truth = (path for i in range(len(items)) for path in dataset.files(i, task))
    evaluated = Evaluated(
        task=task,
        scores=scores_of(result, boundary),
        published=Published(),
        images=len(items),
        settings={
            "task": task,
            "predictions": predictions,
            "predictions digest": digest_of_files(
                [*dict.fromkeys(files.path(item) for item in items)]
            ),
            "data": dataset.title,
            "data digest": digest_of_files([*dict.fromkeys(filter(Path.is_file, truth))]),
            **({} if boundary is None else {"boundary": True}),
        },
        result=result,
        analysis=analyze(metric, result, boundary),
        boundary=boundary,
    )
    evaluated.write(out)

    def draw(tally: Tally) -> Sequence[Picture]:
        if isinstance(dataset, YtvisDataset):
            return ()
        return worst_pictures(evaluation, tally, lambda index: files.read(dataset.images[index]))

    show(scoring, evaluated, draw)
