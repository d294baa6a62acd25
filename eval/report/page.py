"""The parts of a page, rendered by the templates in templates/, which escape all text."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

MISSING = "\N{EN DASH}"  # stands for NaN
NO_OBJECT = f"{MISSING} means that there is no object, and no average contains it."


def percent(fraction: float) -> str:
    """Returns a fraction in percent with one decimal; a dash for NaN."""
    return MISSING if math.isnan(fraction) else f"{100 * fraction:.1f}"


TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
TEMPLATES.filters |= {"percent": percent, "px": "{:.1f}".format}
PARTS: Any = TEMPLATES.get_template("parts.html").module
CHARTS: Any = TEMPLATES.get_template("charts.html").module


def short_count(count: int) -> str:
    """Returns a count in at most four characters or so: 950, 1.2k, 34k, 1.1M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f}{unit}"
    return str(count)


@dataclass(frozen=True)
class Cell:
    """A table cell whose background is a shade of blue ("good") or orange ("bad").

    Attributes:
        text: the content.
        strength: of the shade, 0 to 1; NaN is none.
        shade: a class of the style sheet.
    """

    text: str
    strength: float
    shade: str = "good"

    def __str__(self) -> str:
        return self.text


def shaded_percent(fraction: float) -> Cell:
    """Returns a fraction in percent, shaded the more the higher it is."""
    return Cell(percent(fraction), fraction)


def table(
    header: Sequence[str],
    rows: Iterable[Sequence[str | Cell]],
    *,
    style: str = "",
    over_header: Sequence[tuple[str, int]] = (),
    total_rows: int = 0,
    name: str = "",
) -> Markup:
    """Returns an HTML table that scrolls sideways where there is no room.

    Args:
        header: the names of the columns; the first is over the names of the rows.
        rows: the name of each row, then its cells.
        style: classes of the style sheet.
        over_header: a line above the header: texts and how many columns each of them spans.
        total_rows: how many rows at the end sum up all others.
        name: what a screen reader calls it; "Table by" and the first column where it is empty.
    """
    return PARTS.table(header, list(rows), style, over_header, total_rows, name)


def section(heading: str, explanation: str, *content: Markup) -> Markup:
    """Returns a part of the page: a heading, how to read what follows, and the content."""
    return PARTS.section(heading, explanation, content)


def beside(*parts: Markup) -> Markup:
    """Lays parts side by side where there is room for that."""
    return PARTS.beside(parts)
