"""What a report says of every task: scores by class, the worst images, and confusion."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from markupsafe import Markup

from ...analysis.analysis import Analysis
from ...analysis.bootstrap import RESAMPLES
from ...analysis.boundary import BoundaryMeasure
from ...analysis.confusion import Confusion
from ...analysis.tallies.instances import SHOWN, InstanceTally
from ...analysis.tallies.tally import Tally
from ..page import MISSING, Cell, percent, section, shaded_percent, short_count, table

WORST = 8  # images in the table
MOST_CLASSES = 40  # in the confusion matrix
BACKGROUND = "background"
INTERVALS = (
    f"The 95 % interval is that of {RESAMPLES} resamples of the images: how far the score would "
    "move with other images of the same kind."
)
MATRIX_HEADER = "truth\N{NO-BREAK SPACE}↓ predicted\N{NO-BREAK SPACE}→"

Columns = Mapping[str, Sequence[str | Cell]]


def class_section(
    analysis: Analysis, columns: Columns, totals: Sequence[Sequence[str]], explanation: str
) -> Markup:
    """Returns the table of classes: score and interval, columns of the task's own, and boundaries.

    Args:
        analysis: of the evaluation.
        columns: headers, and a cell for each class.
        totals: rows at the end, with their names and cells from the score on.
        explanation: what the columns are.
    """
    found, names = analysis.intervals, analysis.tally.class_names
    score = score_of_classes(analysis.tally)
    if (boundary := analysis.boundary) is not None:
        of_classes = boundary.intervals.class_scores.tolist()
        columns = {**columns, boundary.name: [*map(shaded_percent, of_classes)]}
        groups = boundary.column[len(names) :]
        totals = [[*row, percent(x)] for row, x in zip(totals, groups, strict=True)]
        explanation += f" {boundary_explanation(boundary)}"
    rows = zip(
        names,
        map(shaded_percent, found.class_scores.tolist()),
        map(interval, found.class_low.tolist(), found.class_high.tolist()),
        *columns.values(),
        strict=True,
    )
    return section(
        "Classes",
        f"{len(analysis.tally.images)} images. {explanation} {INTERVALS}",
        table(
            ["class", score, "95 % interval", *columns],
            [*map(list, rows), *totals],
            total_rows=len(totals),
        ),
    )


def boundary_explanation(boundary: BoundaryMeasure) -> str:
    """Says what the boundary measure is."""
    score = boundary.tally.score
    return (
        f"{boundary.name} is the {score} in which the overlap is the smaller one of the masks' and "
        f"of their boundaries', which reach {100 * boundary.dilation_ratio:g} % of the image's "
        "diagonal inwards (Cheng et al., Boundary IoU, CVPR 2021)."
    )


def score_of_classes(tally: Tally) -> str:
    """Returns the name of a class's score."""
    return tally.score.removeprefix("m")


def interval(low: float, high: float) -> str:
    """Returns an interval in percent; a dash where there is none."""
    return MISSING if math.isnan(low) else f"{percent(low)} to {percent(high)}"


def worst_images(tally: Tally) -> list[int]:
    """Returns the indices of the few worst images, the worst first; none without a fault.

    Of instances and segments those with the most false and missed ones, between equals with more
    missed ones; of pixels those with the lowest score.
    """
    counts = tally.image_counts()
    if "missed" in counts:
        faults = counts["missed"] + counts["false"]
        order = np.lexsort((-counts["missed"], -faults))
    else:
        faults = counts["wrong pixels"]
        order = np.argsort(np.nan_to_num(tally.image_scores(), nan=1.0), kind="stable")
    return [i for i in order.tolist() if faults[i]][:WORST]


def image_section(tally: Tally) -> Markup:
    """Returns the table of the worst images."""
    counts, scores = tally.image_counts(), tally.image_scores()
    of_instances = isinstance(tally, InstanceTally)
    name = "F1" if of_instances else tally.score
    rows = [
        [
            tally.images[i] or "(no name)",
            shaded_percent(float(scores[i])),
            *(short_count(int(column[i])) for column in counts.values()),
        ]
        for i in worst_images(tally)
    ]
    faults = [column for key, column in counts.items() if not key.startswith("right")]
    faultless = int(np.count_nonzero(np.sum(faults, axis=0) == 0)) if faults else 0
    means = {
        "F1": "F1 is right / (right + half of false and missed), in percent, at overlap 0.5 and a "
        f"score of at least {SHOWN}",
        "PQ": "PQ is that of the image alone, in percent",
        "mIoU": "mIoU is that of the image alone, in percent",
    }
    order = "lowest score" if tally.score == "mIoU" else "most faults"
    return section(
        "Worst images",
        f"The images with the {order}; {faultless} of {len(tally.images)} have none at all. "
        f"{means[name]}. images.csv has all images.",
        table(["image", name, *counts], rows, style="names"),
    )


def confusion_section(confusion: Confusion, kind: str, explanation: str) -> Markup:
    """Returns the confusion matrix of the largest classes, by objects, segments or pixels.

    Args:
        confusion: all of it.
        kind: what is counted; "pixels" are shown in percent of the row.
        explanation: of the numbers.
    """
    counts, none = confusion.counts, len(confusion.class_names)
    in_all = counts.sum(axis=0)[:none] + counts.sum(axis=1)[:none]
    shown = np.sort(np.argsort(-in_all, kind="stable")[:MOST_CLASSES])
    others = np.setdiff1d(np.arange(none), shown)
    groups = [*([k] for k in shown), *([others] if len(others) else []), [none]]
    matrix = np.array([[counts[np.ix_(row, column)].sum() for column in groups] for row in groups])
    names = [confusion.class_names[k] for k in shown] + ["other classes"] * bool(len(others))
    last = "not evaluated" if kind == "pixels" else BACKGROUND
    rows: list[list[str | Cell]] = []
    for i, name in enumerate([*names, last]):
        is_last = i == len(names)
        wholes = matrix.sum(axis=0) if is_last else matrix[i].sum().repeat(len(groups))
        shares = matrix[i] / np.maximum(wholes, 1)
        cells = [
            cell(kind, int(matrix[i, j]), float(shares[j]), i == j) for j in range(len(groups))
        ]
        rows.append([name, *cells])
    rows[-1][-1] = ""
    if kind == "pixels":
        rows.pop()
    return section(
        "Confusion between classes",
        f"Rows are the ground truth, columns the predictions. {explanation}"
        + (f" Only the {len(shown)} largest classes have rows of their own." * bool(len(others))),
        table([MATRIX_HEADER, *names, last], rows, style="heat turned", name="Confusion matrix"),
    )


def cell(kind: str, count: int, share: float, is_right: bool) -> str | Cell:
    """Returns a cell of a confusion matrix; a dot for nothing, or nearly nothing of pixels."""
    if (share < 0.0005) if kind == "pixels" else not count:
        return "·"
    text = short_count(count)
    if kind == "pixels":
        text = f"{100 * share:.{0 if share > 0.0995 else 1}f}"
    return Cell(text, share, "good" if is_right else "bad")
