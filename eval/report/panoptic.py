"""What a report says of panoptic quality."""

import math

from markupsafe import Markup

from ..metrics.panoptic.panoptic_quality import PanopticQualityResult
from .page import MISSING, Cell, percent, section, shaded_percent, table


def panoptic_headline(result: PanopticQualityResult) -> dict[str, float]:
    """The numbers at the top of the page, as fractions."""
    return {"PQ": result.all.pq, "PQ things": result.things.pq, "PQ stuff": result.stuff.pq}


def panoptic_sections(result: PanopticQualityResult) -> list[Markup]:
    """The parts of the page."""
    rows: list[list[str | Cell]] = []
    for row in result.per_class.values():
        known = row.tp + row.fp + row.fn > 0
        scores = [score if known else math.nan for score in (row.pq, row.sq, row.rq)]
        rows.append([row.name, *map(shaded_percent, scores), *map(str, (row.tp, row.fp, row.fn))])
    for name, group, kinds in (
        ("things", result.things, [True]),
        ("stuff", result.stuff, [False]),
        ("all", result.all, [True, False]),
    ):
        counts = [
            (row.tp, row.fp, row.fn) for row in result.per_class.values() if row.is_thing in kinds
        ]
        sums = [str(sum(column)) for column in zip((0, 0, 0), *counts, strict=True)]
        rows.append([name, *map(percent, (group.pq, group.sq, group.rq)), *sums])
    return [
        section(
            "Classes",
            "Panoptic quality (PQ) is segmentation quality (SQ, how well matched segments overlap) "
            "times recognition quality (RQ, how many segments match), in percent; then the number "
            f"of segments that are right, false and missed. {MISSING} means that there is none, "
            "and that no average contains it.",
            table(["class", "PQ", "SQ", "RQ", "right", "false", "missed"], rows, total_rows=3),
        )
    ]
