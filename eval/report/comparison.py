"""Two evaluations beside each other as one HTML file."""

import dataclasses
import math
import os

from markupsafe import Markup

from m2f_jax.files import replacing

from ..analysis.bootstrap import RESAMPLES
from ..analysis.comparison import Comparison, boundary_problem
from ..analysis.finished import Finished
from .page import MISSING, PARTS, TEMPLATES, Cell, beside, percent, section, shaded_percent, table
from .pictures import legend, load_pictures

LISTED = 8  # images that got better or worse by most
FULL_SHADE = 0.2  # a change, as a fraction, that is shaded in full


def write_comparison(
    path: str | os.PathLike,
    comparison: Comparison,
    boundary: Comparison | None,
    first: Finished,
    second: Finished,
):
    """Writes the page, which is complete or not there at all."""
    comparisons = [comparison] if boundary is None else [comparison, boundary]
    sections = [evaluated(first, second)]
    for one in comparisons:
        better, worse = one.changed_images(LISTED)
        of = f", by {one.name}" if one is boundary else ""
        sections += [
            classes(one, f"Classes{of}"),
            beside(
                images(one, f"Images that got better{of}", better),
                images(one, f"Images that got worse{of}", worse),
            ),
        ]
    page = TEMPLATES.get_template("comparison.html").render(
        title=f"Two evaluations: {first.task} segmentation of {first.settings.get('data', 'data')}",
        summaries=[
            {
                "name": one.name,
                "scores": one.scores,
                "change": signed(one.change.score),
                "verdict": one.verdict(),
                "text": change_text(one),
            }
            for one in comparisons
        ],
        problem=boundary_problem(first, second),
        sections=[*sections, *pictures(comparison, first, second)],
    )
    with replacing(path) as unfinished:
        unfinished.write_text(page + "\n", encoding="utf-8")


def change_text(comparison: Comparison) -> str:
    """Says the change of the score in a line."""
    change, (first, second) = comparison.change, comparison.scores
    if math.isnan(change.score):
        return f"{comparison.name}: nothing to compare"
    return (
        f"{comparison.name} {percent(first)} to {percent(second)}, {signed(change.score)} "
        f"(95 % interval {signed(change.low)} to {signed(change.high)}): {comparison.verdict()}"
    )


def evaluated(first: Finished, second: Finished) -> Markup:
    """Returns the table of what was evaluated; what differs comes first."""
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


def classes(comparison: Comparison, heading: str) -> Markup:
    """Returns the table of classes."""
    rows: list[list[str | Cell]] = []
    for row in sorted(comparison.class_rows(), key=lambda row: -sortable(row["change"])):
        scores = [shaded_percent(row[name] / 100) for name in ("first", "second")]
        low, high = signed(row["low"] / 100), signed(row["high"] / 100)
        interval = MISSING if math.isnan(row["low"]) else f"{low} to {high}"
        rows.append([row["class"], *scores, changed(row["change"]), interval, row["verdict"]])
    change = comparison.change
    interval = f"{signed(change.low)} to {signed(change.high)}"
    totals = [*map(percent, comparison.scores), signed(change.score), interval]
    rows.append(["all", *totals, comparison.verdict()])
    return section(
        heading,
        "Scores in percent, and the second minus the first, what got better at the top. The "
        f"interval holds 95 % of the differences in {RESAMPLES} resamples of the images, each of "
        "which both evaluations are scored on; where it leaves out 0, the difference is more than "
        "the choice of images.",
        table(["class", "first", "second", "change", "95 % interval", ""], rows, total_rows=1),
    )


def images(comparison: Comparison, heading: str, which: list[int]) -> Markup:
    """Returns the table of some images."""
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


def pictures(comparison: Comparison, first: Finished, second: Finished) -> list[Markup]:
    """Returns the part of the page with images that both reports show; none without any."""
    sides = [{x.name: x for x in load_pictures(one.folder)} for one in (first, second)]
    place = {name: i for i, name in enumerate(comparison.images)}
    names = [
        name
        for name, picture in sides[0].items()
        if name in place
        and name in sides[1]
        and (picture.width, picture.height) == (sides[1][name].width, sides[1][name].height)
    ]
    names.sort(key=lambda name: -abs(sortable(float(comparison.image_changes[place[name]]))))
    if not names:
        return []
    figures = []
    for k, name in enumerate(names):
        i, both = place[name], [side[name] for side in sides]
        scores = [percent(float(scores[i])) for scores in comparison.image_scores]
        change = signed(float(comparison.image_changes[i]))
        drawn = [
            dataclasses.replace(side, words=f"{words}, {side.words}")
            for words, picture in zip(("first", "second"), both, strict=True)
            for side in (picture.ground_truth, picture.prediction)
        ]
        caption = f"{comparison.image_name} {scores[0]} to {scores[1]} ({change})"
        figures.append(PARTS.picture(f"photo-{k}", both[0], caption, drawn))
    of_pixels = any(side[name].prediction.overlay for side in sides for name in names)
    return [
        section(
            "Pictures",
            "The images that are among the worst of both, what changed most first: above as the "
            "first evaluation has them, below as the second. On the left (above, where there is "
            "little room) the ground truth, on the right the predictions.",
            *([] if of_pixels else [legend()]),
            *figures,
        )
    ]


def sortable(change: float) -> float:
    """Returns a change to sort by; 0 where there is nothing to compare."""
    return 0.0 if math.isnan(change) else change


def changed(change: float) -> str | Cell:
    """Returns a change in percent points, shaded by its size and sign."""
    if math.isnan(change):
        return MISSING
    strength = min(abs(change) / 100 / FULL_SHADE, 1.0)
    return Cell(signed(change / 100), strength, "good" if change > 0 else "bad")


def signed(fraction: float) -> str:
    """Returns a difference in percent points with its sign; a dash for NaN."""
    return MISSING if math.isnan(fraction) else f"{100 * fraction:+.1f}"
