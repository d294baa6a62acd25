"""What a report says of panoptic quality."""

import math

from markupsafe import Markup

from ...analysis.analysis import Analysis
from ...metrics.panoptic.panoptic_quality import PanopticQualityResult
from ..page import MISSING, percent, shaded_percent
from .overview import class_section, confusion_section, image_section, interval


def panoptic_headline(result: PanopticQualityResult) -> dict[str, float]:
    """Returns the numbers at the top of the page, as fractions."""
    return {"PQ": result.all.pq, "PQ things": result.things.pq, "PQ stuff": result.stuff.pq}


def panoptic_sections(result: PanopticQualityResult, analysis: Analysis) -> list[Markup]:
    """Returns the parts of the page."""
    return [
        classes(result, analysis),
        image_section(analysis.tally),
        confusion_section(
            analysis.confusion,
            "segments",
            "Segments are counted by their class and that of the segment with which they share "
            "more than half of their union. Blue is right, orange is wrong. The last row counts "
            "predictions that match nothing, the last column segments that nothing matches. Shades "
            "are shares of the row, in the last row of the column.",
        ),
    ]


def classes(result: PanopticQualityResult, analysis: Analysis) -> Markup:
    """Returns the table of classes."""
    rows, found = list(result.per_class.values()), analysis.intervals

    def known(row, score: float) -> float:
        return score if row.tp + row.fp + row.fn > 0 else math.nan

    columns = {
        "SQ": [shaded_percent(known(row, row.sq)) for row in rows],
        "RQ": [shaded_percent(known(row, row.rq)) for row in rows],
        "right": [str(row.tp) for row in rows],
        "false": [str(row.fp) for row in rows],
        "missed": [str(row.fn) for row in rows],
    }
    totals = []
    for name, group, kinds in (
        ("things", result.things, [True]),
        ("stuff", result.stuff, [False]),
        ("all", result.all, [True, False]),
    ):
        counts = [(row.tp, row.fp, row.fn) for row in rows if row.is_thing in kinds]
        sums = [str(sum(column)) for column in zip((0, 0, 0), *counts, strict=True)]
        within = interval(found.low, found.high) if name == "all" else ""
        totals.append([name, percent(group.pq), within, *map(percent, (group.sq, group.rq)), *sums])
    return class_section(
        analysis,
        columns,
        totals,
        "Panoptic quality (PQ) is segmentation quality (SQ, how well matched segments overlap) "
        "times recognition quality (RQ, how many segments match), in percent; then the number of "
        f"segments that are right, false and missed. {MISSING} means that there is none, and that "
        "no average contains it.",
    )
