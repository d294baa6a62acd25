"""Shows the result of an evaluation: as a table, and as a report where there is a folder for it."""

from collections.abc import Callable, Sequence
from pathlib import Path

from m2f_jax.cli.evaluating.scores import print_scores
from m2f_jax.cli.evaluating.scoring import Scoring
from m2f_jax.eval.analysis.tallies.tally import Tally
from m2f_jax.eval.report.pictures import Picture, save_pictures
from m2f_jax.eval.report.writing import write_report
from m2f_jax.eval.results.evaluated import Evaluated


def show(scoring: Scoring, evaluated: Evaluated, draw: Callable[[Tally], Sequence[Picture]]):
    """Prints the table of scores, and writes the report if there is an output folder.

    Args:
        scoring: what was asked for.
        evaluated: the result.
        draw: returns the report's pictures, chosen by the scores of single images.
    """
    print_scores(evaluated.result, evaluated.published, evaluated.boundary)
    if (out := scoring.command.out) is None:
        return
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
    scoring.console.print(f"results are in {out}")
