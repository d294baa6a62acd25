"""The scores of an evaluation as a table for people."""

import functools
import math
from typing import Any

from rich.table import Table

from m2f_jax.cli.terminal.console import terminal
from m2f_jax.eval.analysis.boundary import BoundaryMeasure
from m2f_jax.eval.metrics.cityscapes.instance_ap_result import InstanceAPResult
from m2f_jax.eval.metrics.coco.mask_ap import MaskAPResult
from m2f_jax.eval.metrics.panoptic.panoptic_quality import PanopticQualityResult
from m2f_jax.eval.metrics.semantic.scores import SemanticIoUResult
from m2f_jax.eval.results.headline import headline_scores
from m2f_jax.eval.results.published import Published
from m2f_jax.labels import CITYSCAPES, things

Rows = list[tuple[str, ...]]


@functools.singledispatch
def rows_of(result: Any) -> tuple[tuple[str, ...], Rows]:
    """Returns the table's columns and rows; the last row is over all classes."""
    raise TypeError(type(result))


def percent(fraction: float) -> str:
    """Returns a fraction in percent with one decimal, and a dash for NaN."""
    return "-" if math.isnan(fraction) else f"{100 * fraction:.1f}"


@rows_of.register
def _(result: InstanceAPResult):
    names = [label.name for label in things(CITYSCAPES)]
    rows = [
        (name, percent(aps.mean()), percent(aps[0]))
        for name, aps in zip(names, result.ap_matrix, strict=True)
    ]
    return ("class", "AP", "AP50"), [*rows, ("average", percent(result.ap), percent(result.ap50))]


@rows_of.register
def _(result: MaskAPResult):
    rows = [(name, percent(x.ap), percent(x.ap50)) for name, x in result.per_category.items()]
    return ("class", "AP", "AP50"), [*rows, ("average", percent(result.ap), percent(result.ap50))]


@rows_of.register
def _(result: PanopticQualityResult):
    rows = [
        (x.name, percent(x.pq), percent(x.sq), percent(x.rq), f"{x.tp}", f"{x.fp}", f"{x.fn}")
        for x in result.per_class.values()
    ]
    groups = {"things": result.things, "stuff": result.stuff, "all": result.all}
    rows += [
        (name, percent(x.pq), percent(x.sq), percent(x.rq), "", "", "")
        for name, x in groups.items()
    ]
    return ("class", "PQ", "SQ", "RQ", "right", "false", "missed"), rows


@rows_of.register
def _(result: SemanticIoUResult):
    rows = [
        (name, percent(x.iou), percent(x.iiou))
        for part in (result.per_class, result.per_category)
        for name, x in part.items()
    ]
    rows.append(("categories", percent(result.category_miou), percent(result.category_iiou)))
    return ("class", "IoU", "iIoU"), [*rows, ("all", percent(result.miou), percent(result.iiou))]


def print_scores(result: Any, published: Published, boundary: BoundaryMeasure | None = None):
    """Prints the table on standard output, then the main scores beside the published ones.

    Args:
        result: of a metric.
        published: the authors' scores.
        boundary: a measure that gets a column of its own.
    """
    columns, rows = rows_of(result)
    if boundary is not None:
        columns = (*columns, boundary.name)
        cells = zip(rows, boundary.column, strict=True)
        rows = [(*row, percent(score)) for row, score in cells]
    table = Table(show_edge=False, pad_edge=False)
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in rows[:-1]:
        table.add_row(*row, end_section=row is rows[-2])
    table.add_row(*rows[-1], style="bold")
    console = terminal(errors=False)
    console.print(table, soft_wrap=False)
    if isinstance(result, MaskAPResult):
        for kind in ("AP", "AR"):
            numbers = (f"{name} {percent(x)}" for name, x in result.numbers.items() if kind in name)
            console.print(", ".join(numbers))
        console.print(f"by {result.rules}'s rules, computed by {result.tool}")
    if boundary is not None:
        numbers = ", ".join(f"{name} {percent(x)}" for name, x in boundary.scores.items())
        width = f"boundaries of {100 * boundary.dilation_ratio:g} % of the image's diagonal"
        console.print(f"{numbers} ({width})")
    scores = headline_scores(result)
    for name, theirs in published.scores.items():
        beside = f"published {theirs:.1f}"
        if not math.isnan(scores[name]):
            beside += f", {scores[name] - theirs:+.1f}"
        console.print(f"{name} {percent(scores[name] / 100)} ({beside})")
    if published.problem:
        console.print(f"not compared: {published.problem}")
