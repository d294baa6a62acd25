"""What a report says of instance AP."""

import math
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from markupsafe import Markup

from m2f_jax.inference.processor import FOR_DISPLAY

from ..metrics.instances.matching import OVERLAPS, Curve, Status
from ..metrics.instances.report_data import SIZES, ImageCounts, InstanceAPResult
from .charts import Bar, Frame, Line, bar_chart, grid, key, precision_chart
from .page import (
    NO_OBJECT,
    ORIENTATION,
    TRUTH_AND_PREDICTED,
    Cell,
    beside,
    percent,
    section,
    shaded_percent,
    short_count,
    table,
)

WORST = 8  # images in the table
BACKGROUND = "background"


def instance_headline(result: InstanceAPResult) -> dict[str, float]:
    """The numbers at the top of the page, as fractions."""
    far = {"AP 100 m": result.ap100m, "AP 50 m": result.ap50m}
    numbers = {"AP": result.ap, "AP50": result.ap50}
    return numbers | {name: value for name, value in far.items() if value is not None}


def instance_sections(result: InstanceAPResult) -> list[Markup]:
    """The parts of the page."""
    if not result.pool.images:
        return [section("Classes", "No image was evaluated, so there is nothing to show.")]
    return [
        beside(classes(result), worst(result)),
        curves(result),
        overlap_section(result.pool.class_names, result.ap_matrix),
        sizes(result),
        beside(calibration(result), confusion(result)),
    ]


def classes(result: InstanceAPResult) -> Markup:
    """The table of classes."""
    counts = result.image_counts(FOR_DISPLAY)
    right, false, missed = (x.sum(axis=0) for x in (counts.true, counts.false, counts.missed))
    judged = result.matches.status[:, 0] != Status.IGNORED
    predictions = np.bincount(result.pool.classes[judged], minlength=len(right))
    columns = [result.pool.count_by_class(result.matches.counted), predictions, right, false]
    numbers = np.column_stack([*columns, missed])
    rows: list[list[str | Cell]] = [
        [name, shaded_percent(aps.mean()), shaded_percent(aps[0]), *map(str, row.tolist())]
        for name, aps, row in zip(result.pool.class_names, result.ap_matrix, numbers, strict=True)
    ]
    totals = [str(number) for number in numbers.sum(axis=0).tolist()]
    rows.append(["all", percent(result.ap), percent(result.ap50), *totals])
    return section(
        "Classes",
        f"{len(counts.images)} images. AP is the average precision in percent over the overlaps "
        "0.5 to 0.95, AP50 that at 0.5. Objects and predictions are those that count: not groups, "
        "tiny objects, and predictions on places that aren't evaluated. The last three columns "
        f"look only at predictions with a score of at least {FOR_DISPLAY} and at overlap 0.5: "
        f"right and missed add up to the objects. {NO_OBJECT}",
        table(
            ["class", "AP", "AP50", "objects", "predictions", "right", "false", "missed"],
            rows,
            over_header=[("", 5), (f"score from {FOR_DISPLAY}", 3)],
            total_rows=1,
        ),
    )


def worst(result: InstanceAPResult) -> Markup:
    """The table of the images with the most faults."""
    counts = result.image_counts(FOR_DISPLAY)
    right, false, missed = (x.sum(axis=1) for x in (counts.true, counts.false, counts.missed))
    rows = [
        [counts.images[i] or "(no name)", *(str(x[i]) for x in (missed, false, right))]
        for i in worst_first(counts)
    ]
    faultless = np.count_nonzero(missed + false == 0)
    return section(
        "Worst images",
        f"The images with the most faults at overlap 0.5 and a score of at least {FOR_DISPLAY}; "
        f"{faultless} of {len(counts.images)} have none at all.",
        table(["image", "missed", "false", "right"], rows, style="names"),
    )


def worst_first(counts: ImageCounts) -> list[int]:
    """Indices of the few images with the most faults; none without a fault."""
    missed = counts.missed.sum(axis=1)
    faults = missed + counts.false.sum(axis=1)
    order = np.lexsort((-missed, -faults))[:WORST]
    return [i for i in order.tolist() if faults[i]]


def curves(result: InstanceAPResult) -> Markup:
    """A chart of precision and recall for each class."""
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
        f"score is {FOR_DISPLAY}; the numbers by the name are the areas under both curves, in "
        "percent.",
        key([("first", "overlap 0.5"), ("second", "overlap 0.75")]),
        grid(panels),
    )


def dots_of(curve: Curve) -> list[int]:
    """The index of the point at the score from which pictures show predictions, if there is one."""
    found = int(np.searchsorted(curve.scores, FOR_DISPLAY))
    return [found] if found < len(curve.scores) else []


def overlap_section(names: Sequence[str], ap_matrix: Float[np.ndarray, "K T"]) -> Markup:
    """The table of AP by class and overlap; NaN in `ap_matrix` means no object."""
    rows = [
        [name, *map(shaded_percent, aps.tolist())]
        for name, aps in zip(names, ap_matrix, strict=True)
    ]
    has_object = ~np.isnan(ap_matrix[:, 0])
    means = [math.nan] * len(OVERLAPS)
    if has_object.any():
        means = ap_matrix[has_object].mean(axis=0).tolist()
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
        ),
    )


def sizes(result: InstanceAPResult) -> Markup:
    """A chart and a table of AP by object size."""
    parts = result.size_aps()
    names = ["small", "medium", "large"]
    sides = ["{0:.0f} x {0:.0f} px".format(math.sqrt(border)) for border in SIZES[1:-1]]
    ranges = [f"below {sides[0]}", f"below {sides[1]}", f"from {sides[1]}"]
    bars, ticks = [], []
    for i, part in enumerate(parts):
        for style, left, value in (("first", i + 0.14, part.ap), ("second", i + 0.52, part.ap50)):
            label = percent(value)
            bars.append(Bar(style=style, left=left, right=left + 0.34, height=value, label=label))
        ticks.append((i + 0.5, f"{names[i]}\n{ranges[i]}\n{part.num_objects.sum()} objects"))
    frame = Frame(width=520.0, height=250.0, x_range=(0.0, 3.0), top=18.0, bottom=68.0)
    rows = []
    for k, name in enumerate(result.pool.class_names):
        cells: list[str | Cell] = []
        for part in parts:
            cells += [shaded_percent(part.ap_matrix[k].mean()), str(part.num_objects[k])]
        rows.append([name, *cells])
    header = ["class", *["AP", "objects"] * len(parts)]
    spans = [("", 1), *((name, 2) for name in names)]
    return section(
        "AP by size of the objects",
        "AP and AP50 in percent of the objects of one range of areas, the others left out. It "
        "isn't part of the benchmark; the borders are COCO's. Small objects are usually the "
        f"hardest. {NO_OBJECT}",
        key([("first wide", "AP"), ("second wide", "AP50")]),
        beside(
            bar_chart(frame, bars, ticks, "area of the object", "percent", "AP by size"),
            table(header, rows, over_header=spans),
        ),
    )


def calibration(result: InstanceAPResult) -> Markup:
    """A chart of how often predictions are right, by their score."""
    found = result.calibration()
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


def confusion(result: InstanceAPResult) -> Markup:
    """The confusion matrix of predictions and objects."""
    counts = result.confusion(FOR_DISPLAY).T  # rows are the truth from here on
    names = [*result.pool.class_names, BACKGROUND]
    last = len(names) - 1
    rows: list[list[str | Cell]] = []
    for i, name in enumerate(names):
        wholes = counts[i].sum().repeat(len(names)) if i < last else counts.sum(axis=0)
        cells = [
            Cell(str(count), count / whole, "good" if i == j else "bad") if count else "·"
            for j, (count, whole) in enumerate(zip(counts[i].tolist(), wholes, strict=True))
        ]
        rows.append([name, *cells])
    rows[last][-1] = ""
    return section(
        "Confusion between classes",
        f"{ORIENTATION} Predictions with a score of at least {FOR_DISPLAY} are counted by their "
        "class and the class of the object that they overlap by more than 0.5. Blue is right, "
        "duplicates included; orange is wrong. The last row counts predictions on no object, the "
        "last column objects that no prediction of any class overlaps so. Shades are shares "
        "of the row, in the last row of the column.",
        table([TRUTH_AND_PREDICTED, *names], rows, style="heat turned", name="Confusion matrix"),
    )
