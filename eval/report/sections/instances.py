"""What a report says of instances: of Cityscapes' and COCO's AP alike, and of tracks."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from ...analysis.analysis import Analysis, InstanceAnalysis
from ...analysis.tallies.instances import SHOWN, InstanceTally
from ...analysis.tallies.tally import mean_of_classes, whole
from ...metrics.cityscapes.instance_ap_result import SizeAP, calibration
from ...metrics.cityscapes.matching import OVERLAPS
from ..charts import Bar, Frame, bar_chart, key
from ..page import (
    NO_OBJECT,
    Cell,
    beside,
    percent,
    section,
    shaded_percent,
    short_count,
    table,
)
from .errors import error_section, threshold_section
from .overview import class_section, confusion_section, image_section, interval


def instance_sections(analysis: Analysis, more: Sequence[Markup]) -> list[Markup]:
    """Returns the parts of the page.

    Args:
        analysis: of the evaluation.
        more: what the metric has besides, such as its curves.
    """
    found = analysis.instances
    assert found is not None
    tally = found.tally
    if not tally.images:
        return [section("Classes", "No image was evaluated, so there is nothing to show.")]
    aps = tally.average_precisions(whole(len(tally.images)))[0]
    return [
        classes(analysis, found, aps),
        image_section(tally),
        error_section(found),
        threshold_section(found),
        *more,
        overlap_section(tally.class_names, aps),
        *([sizes(tally.class_names, found.by_size)] if found.by_size else []),
        calibration_section(tally),
        confusion_section(
            analysis.confusion,
            "objects",
            f"Predictions with a score of at least {SHOWN} are counted by their class and the "
            "class of the object that they overlap by more than 0.5. Blue is right, duplicates "
            "included; orange is wrong. The last row counts predictions on no object, the last "
            "column objects that no prediction of any class overlaps so. Shades are shares of the "
            "row, in the last row of the column.",
        ),
    ]


def classes(analysis: Analysis, more: InstanceAnalysis, aps: Float[np.ndarray, "K T"]) -> Markup:
    """Returns the table of classes."""
    counts, found = more.tally.class_counts(), analysis.intervals
    columns = {
        "AP50": [shaded_percent(ap) for ap in aps[:, 0].tolist()],
        "AP75": [shaded_percent(ap) for ap in aps[:, 5].tolist()],
        **{name: [str(n) for n in column.tolist()] for name, column in counts.items()},
    }
    means = [mean_of_classes(aps[:, t]) for t in (0, 5)]
    total = ["all", percent(found.score), interval(found.low, found.high)]
    total += [percent(float(mean)) for mean in means]
    return class_section(
        analysis,
        columns,
        [[*total, *(str(column.sum()) for column in counts.values())]],
        "AP is the average precision in percent over the overlaps 0.5 to 0.95, AP50 and AP75 that "
        "at 0.5 and 0.75. Objects and predictions are those that count. Right, false and missed "
        f"look only at predictions with a score of at least {SHOWN} and at overlap 0.5: right and "
        f"missed add up to the objects. {NO_OBJECT}",
    )


def overlap_section(names: Sequence[str], ap_matrix: Float[np.ndarray, "K T"]) -> Markup:
    """Returns the table of AP by class and overlap; NaN in `ap_matrix` means no object."""
    rows = [
        [name, *map(shaded_percent, aps.tolist())]
        for name, aps in zip(names, ap_matrix, strict=True)
    ]
    means = mean_of_classes(ap_matrix.T).tolist()
    return section(
        "AP by overlap",
        "How much of a prediction and its object must coincide (intersection over union) to count "
        "as a match, and the AP in percent that follows. A class that fades early is found, but "
        "its outlines are inexact; one that is pale at 0.50 isn't found.",
        table(
            ["class", *(f"{overlap:.2f}" for overlap in OVERLAPS)],
            [*rows, ["average", *map(shaded_percent, means)]],
            style="heat",
            total_rows=1,
            name="AP by overlap",
        ),
    )


def sizes(names: Sequence[str], parts: dict[str, SizeAP]) -> Markup:
    """Returns a chart and a table of AP by object size."""
    borders = [
        f"{math.sqrt(part.max_area):.0f} x {math.sqrt(part.max_area):.0f} px"
        for part in list(parts.values())[:-1]
    ]
    ranges = [f"below {borders[0]}", f"below {borders[1]}", f"from {borders[1]}"]
    bars, ticks = [], []
    for i, (name, part) in enumerate(parts.items()):
        for style, left, value in (("first", i + 0.14, part.ap), ("second", i + 0.52, part.ap50)):
            label = percent(value)
            bars.append(Bar(style=style, left=left, right=left + 0.34, height=value, label=label))
        ticks.append((i + 0.5, f"{name}\n{ranges[i]}\n{part.num_objects.sum()} objects"))
    frame = Frame(width=520.0, height=250.0, x_range=(0.0, 3.0), top=18.0, bottom=68.0)
    rows = []
    for k, name in enumerate(names):
        cells: list[str | Cell] = []
        for part in parts.values():
            cells += [shaded_percent(part.ap_matrix[k].mean()), str(part.num_objects[k])]
        rows.append([name, *cells])
    header = ["class", *["AP", "objects"] * len(parts)]
    spans = [("", 1), *((name, 2) for name in parts)]
    return section(
        "AP by size of the objects",
        "AP and AP50 in percent of the objects of one range of areas, the others left out; the "
        f"borders are COCO's. Small objects are usually the hardest. {NO_OBJECT}",
        key([("first wide", "AP"), ("second wide", "AP50")]),
        beside(
            bar_chart(frame, bars, ticks, "area of the object", "percent", "AP by size"),
            table(header, rows, over_header=spans, name="AP by size"),
        ),
    )


def calibration_section(tally: InstanceTally) -> Markup:
    """Draws how often predictions are right, by their score."""
    found = calibration(tally.scores, tally.status[:, 0])
    bars = [
        Bar(
            style="first",
            left=low + 0.01,
            right=high - 0.01,
            height=fraction,
            label=short_count(count) if count else "",
            mark=min(max(score, 0.0), 1.0) if count else math.nan,
        )
        for low, high, fraction, count, score in zip(
            found.edges[:-1].tolist(),
            found.edges[1:].tolist(),
            found.true_fraction.tolist(),
            found.count.tolist(),
            found.mean_score.tolist(),
            strict=True,
        )
    ]
    ticks = [(edge, f"{edge:.1f}") for edge in found.edges[::2].tolist()]
    return section(
        "Are the scores honest?",
        "Predictions by their score: the bar is the part of them that is right at overlap 0.5, "
        "the short line their mean score, the number above how many they are. A bar that "
        "ends below its line means that such predictions are right less often than they claim.",
        bar_chart(
            Frame(width=520.0, height=250.0, top=20.0),
            bars,
            ticks,
            "score",
            "right %",
            "Part of the predictions that is right, by score",
        ),
    )
