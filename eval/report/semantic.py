"""What a report says of semantic IoU."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup

from ..metrics.semantic.scores import SemanticIoUResult
from .page import (
    MISSING,
    ORIENTATION,
    TRUTH_AND_PREDICTED,
    Cell,
    beside,
    percent,
    section,
    shaded_percent,
    table,
)

MOST_CLASSES = 40  # in the confusion matrix


def semantic_headline(result: SemanticIoUResult) -> dict[str, float]:
    """The numbers at the top of the page, as fractions."""
    numbers = {"mIoU": result.miou, "iIoU": result.iiou, "category mIoU": result.category_miou}
    return {name: value for name, value in numbers.items() if not math.isnan(value)} or numbers


def semantic_sections(result: SemanticIoUResult) -> list[Markup]:
    """The parts of the page."""
    return [classes(result), confusion(result)]


def classes(result: SemanticIoUResult) -> Markup:
    """The tables of classes and of categories."""

    def scores(heading: str, found: Mapping[str, Any], miou: float, iiou: float) -> Markup:
        rows = [
            [name, shaded_percent(row.iou), shaded_percent(row.iiou)] for name, row in found.items()
        ]
        rows.append(["mean", percent(miou), percent(iiou)])
        return table([heading, "IoU", "iIoU"], rows, total_rows=1)

    parts = [scores("class", result.per_class, result.miou, result.iiou)]
    if result.per_category:
        means = result.category_miou, result.category_iiou
        parts.append(scores("category", result.per_category, *means))
    return section(
        "Classes",
        "Intersection over union in percent, and the same with every object weighted alike (iIoU). "
        f"{MISSING} means that there is no such pixel, or no such object.",
        beside(*parts),
    )


def confusion(result: SemanticIoUResult) -> Markup:
    """The confusion matrix of the largest classes, in percent of their pixels."""
    evaluated = np.flatnonzero([row.evaluated for row in result.classes])
    pixels = result.confusion[evaluated].sum(axis=1)
    shown = np.sort(evaluated[np.argsort(-pixels, kind="stable")[:MOST_CLASSES]])
    names = [result.classes[k].name for k in shown]
    matrix = result.confusion[np.ix_(shown, shown)]
    counts = np.column_stack([matrix, result.confusion[shown].sum(axis=1) - matrix.sum(axis=1)])
    rows: list[list[str | Cell]] = []
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        shares = (row / max(int(row.sum()), 1)).tolist()
        cells = [
            Cell(f"{100 * s:.{0 if s > 0.0995 else 1}f}", s, "good" if i == j else "bad")
            if s >= 0.0005
            else "·"
            for j, s in enumerate(shares)
        ]
        rows.append([name, *cells])
    return section(
        "Confusion between classes",
        f"{ORIENTATION} Of the pixels of each class, how many percent were predicted as "
        "each class. A perfect result has 100 on the diagonal; · is less than 0.05. “Other” are "
        "classes that aren't evaluated"
        + (f", and all but the {MOST_CLASSES} largest." if len(evaluated) > len(shown) else "."),
        table(
            [TRUTH_AND_PREDICTED, *names, "other"],
            rows,
            style="heat turned",
            name="Confusion matrix",
        ),
    )
