"""What a report says of Cityscapes' instance AP besides what it says of all instances."""

import numpy as np
from markupsafe import Markup

from ...analysis.analysis import Analysis
from ...analysis.tallies.instances import SHOWN
from ...metrics.cityscapes.instance_ap_result import InstanceAPResult
from ...metrics.cityscapes.matching import Curve
from ..charts import Line, grid, key, precision_chart
from ..page import percent, section
from .instances import instance_sections


def cityscapes_headline(result: InstanceAPResult) -> dict[str, float]:
    """Returns the numbers at the top of the page, as fractions."""
    far = {"AP 100 m": result.ap100m, "AP 50 m": result.ap50m}
    numbers = {"AP": result.ap, "AP50": result.ap50}
    return numbers | {name: value for name, value in far.items() if value is not None}


def cityscapes_sections(result: InstanceAPResult, analysis: Analysis) -> list[Markup]:
    """Returns the parts of the page."""
    return instance_sections(analysis, [curves(result)])


def curves(result: InstanceAPResult) -> Markup:
    """Draws precision and recall of each class."""
    panels = []
    for k, name in enumerate(result.pool.class_names):
        at = [(style, result.curve(name, t)) for style, t in (("first", 0.5), ("second", 0.75))]
        lines = [
            Line(style=style, x=curve.recall, y=curve.precision, dots=dots_of(curve))
            for style, curve in at
            if not np.isnan(result.ap_matrix[k, 0]) and len(curve.scores)
        ]
        aps = [percent(result.ap_matrix[k, t]) for t in (0, 5)]
        note = f"{aps[0]} / {aps[1]}" if lines else "no object"
        if not lines and not np.isnan(result.ap_matrix[k, 0]):
            note = "no prediction"
        panels.append((name, note, precision_chart(name, lines)))
    return section(
        "Precision and recall",
        "Each curve goes through all scores: to the right, predictions with lower scores are let "
        "in, so more objects are found (recall) and fewer of the predictions are right "
        "(precision). The further it reaches to the upper right, the better. The dot is where the "
        f"score is {SHOWN}; the numbers by the name are the areas under both curves, in percent.",
        key([("first", "overlap 0.5"), ("second", "overlap 0.75")]),
        grid(panels),
    )


def dots_of(curve: Curve) -> list[int]:
    """Returns the index of the point at the score that pictures begin with, if there is one."""
    found = int(np.searchsorted(curve.scores, SHOWN))
    return [found] if found < len(curve.scores) else []
