"""Scores predictions in files."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from m2f_jax.cli.evaluating.scoring import Scoring
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.analysis.tallies.tally import Tally
from m2f_jax.eval.metrics.coco.mask_ap import CocoMaskAP
from m2f_jax.eval.predictions.files import PredictionFiles, measure_files
from m2f_jax.eval.report.pictures import Picture, worst_pictures
from m2f_jax.eval.results.evaluated import Evaluated
from m2f_jax.eval.results.headline import headline_scores
from m2f_jax.eval.results.published import Published
from m2f_jax.eval.running.digests import digest_of_files
from m2f_jax.eval.tasks import evaluation_of


def score_files(scoring: Scoring, predictions: str, files: PredictionFiles) -> int:
    """Scores the predictions of each image, shows the result, and returns 0.

    Args:
        scoring: what was asked for.
        predictions: the path that was named.
        files: what was found there.
    """
    dataset, task, out = scoring.dataset, scoring.task, scoring.command.out
    items = dataset.images[: scoring.command.limit]
    evaluation = evaluation_of(dataset, task, tool=scoring.tool)
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
    truth = (path for i in range(len(items)) for path in dataset.files(i, task))
    options = {"boundary": True} if scoring.boundary else {}
    evaluated = Evaluated(
        task=task,
        scores=headline_scores(result),
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
        },
        result=result,
        analysis=analyze(metric, result, **options) if out else None,
    )
    if out is not None:
        evaluated.write(Path(out))

    def draw(tally: Tally) -> Sequence[Picture]:
        if isinstance(dataset, YtvisDataset):
            return ()
        return worst_pictures(evaluation, tally, lambda index: files.read(dataset.images[index]))

    scoring.show(evaluated, draw)
    return 0
