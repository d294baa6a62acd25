"""What a report says of mask AP, by the rules of COCO, YouTubeVIS or LVIS."""

import math

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from ...analysis.analysis import Analysis
from ...metrics.coco.mask_ap import MaskAPResult
from ..charts import Line, grid, key, precision_chart
from ..page import percent, section, table
from .instances import instance_sections

MOST_PANELS = 24  # classes with a chart of their own
RECALLS = np.linspace(0, 1, 101)


def coco_headline(result: MaskAPResult) -> dict[str, float]:
    """Returns the numbers at the top of the page, as fractions."""
    return {"AP": result.ap, "AP50": result.ap50, "AP75": result.ap75}


def coco_sections(result: MaskAPResult, analysis: Analysis) -> list[Markup]:
    """Returns the parts of the page."""
    return instance_sections(analysis, [numbers(result), curves(result, class_aps(result))])


def class_aps(result: MaskAPResult) -> Float[np.ndarray, "K T"]:
    """Returns the AP of each class at each overlap; NaN where there is no object."""
    return result.precision.mean(axis=1).T


def numbers(result: MaskAPResult) -> Markup:
    """Returns the table of the official numbers."""
    rows = [
        [name, *meaning, percent(result.numbers[name])] for name, meaning in result.meanings.items()
    ]
    return section(
        f"{result.rules}'s numbers",
        "Average precision (AP) and average recall (AR) in percent, as the official tool prints "
        f"them; computed by {result.tool}. Small objects have an area of at most {result.small} x "
        f"{result.small} pixels, large ones of at least {result.large} x {result.large}; "
        f"detections are the most that count in {result.unit}.",
        table(["number", "overlap", "objects", "detections", "%"], rows),
    )


def curves(result: MaskAPResult, aps: Float[np.ndarray, "K T"]) -> Markup:
    """Draws precision and recall, of all classes and of each."""
    present = np.flatnonzero(~np.isnan(aps[:, 0]))
    names = list(result.per_category)
    panels = []
    if len(present):
        mean = result.precision[:, :, present].mean(axis=2)
        panels.append(panel("all classes", mean, aps[present].mean(axis=0)))
    if len(names) <= MOST_PANELS:
        panels += [panel(name, result.precision[..., k], aps[k]) for k, name in enumerate(names)]
    return section(
        "Precision and recall",
        "To the right, detections with lower scores are let in, so more objects are found (recall) "
        "and fewer of the detections are right (precision). As COCO has it, the precision is the "
        "best one at this recall or a higher one, and 0 beyond the last object that is found. The "
        "numbers by the name are the areas under both curves, in percent.",
        key([("first", "overlap 0.5"), ("second", "overlap 0.75")]),
        grid(panels),
    )


def panel(
    name: str, precision: Float[np.ndarray, "T R"], aps: Float[np.ndarray, "T"]
) -> tuple[str, str, Markup]:
    """Returns a class's name, its AP at 0.5 and 0.75, and its chart."""
    lines, note = [], "no object"
    if not math.isnan(aps[0]):
        note = f"{percent(aps[0])} / {percent(aps[5])}"
        lines = [
            Line(style=style, x=RECALLS, y=precision[t])
            for style, t in (("first", 0), ("second", 5))
        ]
    return name, note, precision_chart(name, lines)
