"""Opens a model, runs it over a data set and scores it."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax

from m2f_jax.cli.arguments import DEFAULT_MODEL, EvalImages, EvalYtvis
from m2f_jax.cli.environment.cache import cache_folder, programs_folder
from m2f_jax.cli.environment.dtype import dtype_of
from m2f_jax.cli.evaluating.scoring import Scoring
from m2f_jax.cli.evaluating.showing import show
from m2f_jax.cli.terminal.progress import ImageProgress
from m2f_jax.datasets.published.ytvis import YtvisDataset
from m2f_jax.eval.analysis.tallies.tally import Tally
from m2f_jax.eval.evaluation import EvaluationError, evaluate
from m2f_jax.eval.report.pictures import Picture, worst_pictures
from m2f_jax.eval.tasks import evaluation_of, matched_labels
from m2f_jax.images import read_image
from m2f_jax.inference.processor import FOR_DISPLAY
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.inference.video_segmenter import VideoSegmenter
from m2f_jax.modeling.video_mask2former import VideoMask2Former
from m2f_jax.pretrained import load


def segmenter_of(command: EvalImages) -> Segmenter:
    """Opens the model to score, on all devices of this process."""
    opened = load(
        command.model or DEFAULT_MODEL,
        dtype_of(command.dtype),
        labels=command.labels,
        revision=command.revision,
    )
    return Segmenter(
        opened.model, opened.processor, jax.local_devices(), command.batch_size, programs_folder()
    )


def video_segmenter_of(command: EvalYtvis, model: str) -> VideoSegmenter:
    """Opens the model of videos to score."""
    opened = load(
        model,
        dtype_of(command.dtype),
        labels=command.labels,
        revision=command.revision,
        kind=VideoMask2Former,
    )
    assert isinstance(opened.model, VideoMask2Former)
    return VideoSegmenter(opened.model, opened.processor)


def score_model(scoring: Scoring, segmenter: Segmenter | VideoSegmenter) -> int:
    """Runs the model over the images that have no table yet, and shows the result of all.

    Returns:
        The exit code: 1 if an image failed, and then there is no result.
    """
    command, dataset, task = scoring.command, scoring.dataset, scoring.task
    console, unit = scoring.console, scoring.unit
    with contextlib.ExitStack() as stack:
        bar: list[ImageProgress] = []

        def start(todo: int, ours: int):
            if todo < ours:
                console.print(f"{ours - todo} of {ours} {unit}s are done already")
            bar.append(stack.enter_context(ImageProgress("evaluating", todo, console, unit)))

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
                boundary=scoring.boundary,
                tables=tables_folder(command.out),
                settings={"model": command.model or DEFAULT_MODEL},
                source=command.model,
                tool=scoring.tool,
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

    show(scoring, evaluated, draw)
    return 0


def tables_folder(out: str | None) -> Path | None:
    """Returns where the tables of finished images are kept, so that a run can go on.

    That is in the output folder, or else in the user's cache folder; None if there is neither.
    """
    if out is not None:
        return Path(out, "tables")
    cache = cache_folder()
    return None if cache is None else cache / "eval"
