"""A result as one HTML file that opens anywhere, without a network.

What a report says of each kind of result is in `sections_of`; its charts are in `charts`.
"""

import functools
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m2f_jax.files import replacing

from ..metrics.coco_ap import CocoMaskAPResult
from ..metrics.instance_report_data import InstanceAPResult
from ..metrics.panoptic_quality import PanopticQualityResult
from ..metrics.semantic_scores import SemanticIoUResult
from .coco import coco_sections
from .instances import instance_sections
from .page import (
    MISSING,
    STYLE,
    Cell,
    Markup,
    beside,
    card,
    facts,
    joined,
    percent,
    section,
    shaded_percent,
    table,
    tag,
)
from .pictures import (
    Picture,
    picture_section,
    worst_images,
    worst_pictures,
    worst_pictures_of_files,
)

__all__ = [
    "Picture",
    "worst_images",
    "worst_pictures",
    "worst_pictures_of_files",
    "write_report",
]

MOST_CLASSES = 40  # in a confusion table
NO_OBJECT = f"{MISSING} means that there is none, and that no average contains it."


def write_report(
    path: str | os.PathLike,
    result: Any,
    *,
    title: str,
    settings: Mapping[str, Any],
    published: Mapping[str, float],
    pictures: Sequence[Picture],
):
    """Writes the page, which is complete or not there at all.

    Args:
        path: of the .html file.
        result: what one of the metrics gave.
        title: the heading, in plain text.
        settings: what was evaluated and how.
        published: the authors' scores in percent, by the names "AP", "AP50", "PQ" and "mIoU".
        pictures: the images to show, as those that `worst_images` names.

    Raises:
        TypeError: the result isn't one of a metric.
    """
    sections = [
        tag("section", headline(headline_of(result), published)),
        section("What was evaluated", "", facts(settings)),
        *sections_of(result),
    ]
    if pictures:
        sections.append(picture_section(pictures))
    elif isinstance(result, InstanceAPResult):
        sections.append(section("Pictures", "This report was written without pictures."))
    head = joined(
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Markup(STYLE)),
    )
    body = tag("main", tag("h1", title), *sections)
    page = "<!DOCTYPE html>\n" + tag("html", tag("head", head), tag("body", body), lang="en")
    with replacing(path) as unfinished:
        unfinished.write_text(page + "\n", encoding="utf-8")


def headline(numbers: Mapping[str, float], published: Mapping[str, float]) -> Markup:
    """The numbers at the top, beside what the authors published."""
    cards = []
    for name, value in numbers.items():
        note = ""
        if name in published:
            note = f"published {published[name]:.1f}"
            if not math.isnan(value):
                note += f" ({100 * value - published[name]:+.1f})"
        cards.append(card(name, percent(value), note))
    note = "In percent."
    if not published.keys() & numbers.keys():
        note += " There is no published number to compare with."
    else:
        note += " Published are the authors' numbers for the whole validation set."
    return joined(tag("div", *cards, class_="cards"), tag("p", note))


@functools.singledispatch
def headline_of(result: Any) -> dict[str, float]:
    """The numbers at the top, as fractions."""
    raise TypeError(f"no report can be made of a {type(result).__name__}")


@functools.singledispatch
def sections_of(result: Any) -> list[Markup]:
    """The parts of a page that are about a kind of result."""
    raise TypeError(f"no report can be made of a {type(result).__name__}")


@headline_of.register
def _(result: InstanceAPResult) -> dict[str, float]:
    far = {"AP 100 m": result.ap100m, "AP 50 m": result.ap50m}
    numbers = {"AP": result.ap, "AP50": result.ap50}
    return numbers | {name: value for name, value in far.items() if value is not None}


sections_of.register(InstanceAPResult, instance_sections)


@headline_of.register
def _(result: CocoMaskAPResult) -> dict[str, float]:
    return {"AP": result.ap, "AP50": result.ap50, "AP75": result.ap75}


sections_of.register(CocoMaskAPResult, coco_sections)


@headline_of.register
def _(result: PanopticQualityResult) -> dict[str, float]:
    return {"PQ": result.all.pq, "PQ things": result.things.pq, "PQ stuff": result.stuff.pq}


@sections_of.register
def _(result: PanopticQualityResult) -> list[Markup]:
    rows: list[list[str | Cell]] = []
    for row in result.per_class.values():
        known = row.tp + row.fp + row.fn > 0
        scores = [score if known else math.nan for score in (row.pq, row.sq, row.rq)]
        counts = [str(number) for number in (row.tp, row.fp, row.fn)]
        rows.append([row.name, *map(shaded_percent, scores), *counts])
    for name, group in (("things", result.things), ("stuff", result.stuff), ("all", result.all)):
        rows.append([name, *map(percent, (group.pq, group.sq, group.rq)), "", "", ""])
    return [
        section(
            "Classes",
            "Panoptic quality (PQ) is segmentation quality (SQ, how well matched segments overlap) "
            "times recognition quality (RQ, how many segments match), in percent; then the number "
            f"of segments that are right, false and missed. {NO_OBJECT}",
            table(
                ["class", "PQ", "SQ", "RQ", "right", "false", "missed"],
                rows,
                total_rows=3,
            ),
        )
    ]


@headline_of.register
def _(result: SemanticIoUResult) -> dict[str, float]:
    numbers = {"mIoU": result.miou, "iIoU": result.iiou, "category mIoU": result.category_miou}
    return {name: value for name, value in numbers.items() if not math.isnan(value)} or numbers


@sections_of.register
def _(result: SemanticIoUResult) -> list[Markup]:
    def scores(heading: str, found: Mapping[str, Any], miou: float, iiou: float) -> Markup:
        rows = [
            [name, shaded_percent(row.iou), shaded_percent(row.iiou)] for name, row in found.items()
        ]
        return table(
            [heading, "IoU", "iIoU"], [*rows, ["mean", percent(miou), percent(iiou)]], total_rows=1
        )

    parts = [scores("class", result.per_class, result.miou, result.iiou)]
    if result.per_category:
        means = result.category_miou, result.category_iiou
        parts.append(scores("category", result.per_category, *means))
    classes = section(
        "Classes",
        "Intersection over union in percent, and the same with every object weighted alike (iIoU). "
        f"{MISSING} means that there is no such pixel, or no such object.",
        beside(*parts),
    )
    evaluated = np.flatnonzero([row.evaluated for row in result.classes])
    pixels = result.confusion[evaluated].sum(axis=1)
    shown = np.sort(evaluated[np.argsort(-pixels, kind="stable")[:MOST_CLASSES]])
    names = [result.classes[k].name for k in shown]
    other = result.confusion[shown].sum(axis=1) - result.confusion[np.ix_(shown, shown)].sum(axis=1)
    counts = np.column_stack([result.confusion[np.ix_(shown, shown)], other])
    rows = []
    for i, (name, row) in enumerate(zip(names, counts, strict=True)):
        shares = (row / max(int(row.sum()), 1)).tolist()
        cells = [
            Cell(f"{100 * s:.{0 if s > 0.0995 else 1}f}", s, "good" if i == j else "bad")
            if s >= 0.0005
            else Cell("·")
            for j, s in enumerate(shares)
        ]
        rows.append([name, *cells])
    confusion = section(
        "Confusion between classes",
        "Of the pixels of each class (row), how many percent were predicted as each class "
        "(column). A perfect result has 100 on the diagonal; · is less than 0.05. “Other” are "
        "classes that aren't evaluated"
        + (f", and all but the {MOST_CLASSES} largest." if len(evaluated) > len(shown) else "."),
        table(
            ["truth\N{NO-BREAK SPACE}↓ predicted\N{NO-BREAK SPACE}→", *names, "other"],
            rows,
            style="heat turned",
        ),
    )
    return [classes, confusion]
