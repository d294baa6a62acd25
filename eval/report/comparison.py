"""Two evaluations beside each other as one HTML file."""

import math
import os

from markupsafe import Markup

from m2f_jax.files import replacing

from ..analysis.bootstrap import RESAMPLES
from ..analysis.comparison import Comparison
from ..analysis.finished import Finished
from .page import MISSING, TEMPLATES, Cell, beside, percent, section, shaded_percent, table

LISTED = 8  # images that got better or worse by most
FULL_SHADE = 0.2  # a change, as a fraction, that is shaded in full


def write_comparison(
    path: str | os.PathLike, comparison: Comparison, first: Finished, second: Finished
):
    """Writes the page, which is complete or not there at all."""
    better, worse = comparison.changed_images(LISTED)
    sections = [
        evaluated(first, second),
        classes(comparison),
        beside(
            images(comparison, "Images that got better", better),
            images(comparison, "Images that got worse", worse),
        ),
    ]
    page = TEMPLATES.get_template("comparison.html").render(
        title=f"Two evaluations: {first.task} segmentation of {first.settings.get('data', 'data')}",
        name=comparison.name,
        scores=comparison.scores,
        change=signed(comparison.change.score),
        verdict=comparison.verdict(),
        text=change_text(comparison),
        sections=sections,
    )
    with replacing(path) as unfinished:
        unfinished.write_text(page + "\n", encoding="utf-8")


def change_text(comparison: Comparison) -> str:
    """The change of the score as a line."""
    change, (first, second) = comparison.change, comparison.scores
    if math.isnan(change.score):
        return f"{comparison.name}: nothing to compare"
    return (
        f"{comparison.name} {percent(first)} to {percent(second)}, {signed(change.score)} "
        f"(95 % interval {signed(change.low)} to {signed(change.high)}): {comparison.verdict()}"
    )


def evaluated(first: Finished, second: Finished) -> Markup:
    """The table of what was evaluated: where both differ first."""
    names = list(dict.fromkeys([*first.settings, *second.settings]))
    rows = []
    for name in names:
        values = [str(one.settings.get(name) or MISSING) for one in (first, second)]
        rows.append((values[0] == values[1], [name, *values]))
    rows.sort(key=lambda row: row[0])
    return section(
        "What was evaluated",
        "What differs comes first.",
        table(
            ["", "first", "second"],
            [["folder", str(first.folder), str(second.folder)], *(row for _, row in rows)],
            style="facts names",
        ),
    )


def classes(comparison: Comparison) -> Markup:
    """The table of classes."""
    rows: list[list[str | Cell]] = []
    for row in comparison.class_rows():
        scores = [shaded_percent(row[name] / 100) for name in ("first", "second")]
        low, high = signed(row["low"] / 100), signed(row["high"] / 100)
        interval = MISSING if math.isnan(row["low"]) else f"{low} to {high}"
        rows.append([row["class"], *scores, changed(row["change"]), interval, row["verdict"]])
    change = comparison.change
    interval = f"{signed(change.low)} to {signed(change.high)}"
    totals = [*map(percent, comparison.scores), signed(change.score), interval]
    rows.append(["all", *totals, comparison.verdict()])
    return section(
        "Classes",
        f"Scores in percent, and the second minus the first. The interval holds 95 % of the "
        f"differences in {RESAMPLES} resamples of the images, each of which both evaluations are "
        "scored on; where it leaves out 0, the difference is more than the choice of images.",
        table(["class", "first", "second", "change", "95 % interval", ""], rows, total_rows=1),
    )


def images(comparison: Comparison, heading: str, which: list[int]) -> Markup:
    """The table of some images."""
    everything = comparison.image_rows()
    rows: list[list[str | Cell]] = [
        [
            everything[i]["image"],
            *(percent(everything[i][name] / 100) for name in ("first", "second")),
            changed(everything[i]["change"]),
        ]
        for i in which
    ]
    return section(
        heading,
        f"By their {comparison.image_name} in percent; images.csv has all."
        if rows
        else f"None, by their {comparison.image_name}.",
        *([table(["image", "first", "second", "change"], rows, style="names")] if rows else []),
    )


def changed(change: float) -> str | Cell:
    """A change in percent points, shaded by how large it is and by its sign."""
    if math.isnan(change):
        return MISSING
    strength = min(abs(change) / 100 / FULL_SHADE, 1.0)
    return Cell(signed(change / 100), strength, "good" if change > 0 else "bad")


def signed(fraction: float) -> str:
    """A difference in percent points with its sign; a dash for NaN."""
    return MISSING if math.isnan(fraction) else f"{100 * fraction:+.1f}"
