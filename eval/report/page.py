"""The HTML of a report: elements with everything escaped, tables, and the style sheet."""

import base64
import html
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

VOID_ELEMENTS = ("meta", "img")  # have no content and no end
MISSING = "\N{EN DASH}"  # stands for NaN
WIDEST = 1024  # pixels of an image in the file
SHADES = {"good": "46, 125, 196", "bad": "224, 122, 40"}  # red, green, blue on either theme

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1b1f24; --faint: #5c6670; --page: #ffffff; --panel: #f5f7f9; --line: #d5dbe1;
  --first: #1d6fb8; --second: #c2500f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e6e9ec; --faint: #a3adb7; --page: #14181c; --panel: #1d2329; --line: #39424b;
    --first: #6fb4f2; --second: #f59a5a;
  }
}
* { box-sizing: border-box; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
}
main { max-width: 1240px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 1rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 2.75rem 0 0.25rem; break-after: avoid; }
p { max-width: 46rem; margin: 0.25rem 0 0.9rem; }
section > p:not(.key) { color: var(--faint); }
.cards { display: flex; flex-wrap: wrap; gap: 0.75rem; }
.card { background: var(--panel); border-radius: 0.5rem; padding: 0.7rem 1.1rem; min-width: 9rem; }
.card b { display: block; font-size: 2.2rem; line-height: 1.2; font-weight: 650; }
.card small { display: block; color: var(--faint); font-size: 0.85rem; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: 0.92rem; font-variant-numeric: tabular-nums; }
th, td { padding: 0.28rem 0.7rem; text-align: right; border-bottom: 1px solid var(--line); }
thead th { font-weight: 600; color: var(--faint); vertical-align: bottom; }
th[colspan] { text-align: center; }
th:first-child { text-align: left; }
tbody th { font-weight: 500; }
th:first-child { position: sticky; left: 0; background: var(--page); }
tbody th { max-width: 15rem; }
tbody th, .heat.turned thead th:not(:first-child) span, .grid figcaption b {
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis;
}
.total > * { font-weight: 700; border-top: 2px solid var(--faint); }
.total + .total > * { border-top: 0; }
.facts th { color: var(--faint); vertical-align: top; }
.facts td { text-align: left; overflow-wrap: anywhere; }
.heat td { text-align: center; padding: 0.28rem 0.35rem; min-width: 2.6rem; }
.heat.turned thead th:not(:first-child) { padding: 0.3rem 0; text-align: center; }
.heat.turned thead th:not(:first-child) span {
  writing-mode: vertical-rl; transform: rotate(180deg); display: inline-block; max-height: 11rem;
}
.heat.turned th:first-child { padding: 0.28rem 0.3rem; }
.heat.turned thead th:first-child span { display: inline-block; max-width: 6.5rem; }
.names th { max-width: none; }
.beside { display: flex; flex-wrap: wrap; gap: 0 3rem; align-items: flex-start; }
.beside > section, .beside > .chart { flex: 1 1 30rem; min-width: 0; }
.beside > .scroll { min-width: 0; max-width: 100%; }
.beside > section:nth-child(2) { flex-grow: 0; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(235px, 1fr)); gap: 1rem; }
.grid figure { margin: 0; break-inside: avoid; }
.grid figcaption { font-size: 0.9rem; display: flex; gap: 0.4rem; }
.grid figcaption span { color: var(--faint); flex: none; }
svg { display: block; width: 100%; height: auto; }
.chart { max-width: 640px; }
svg text { fill: var(--faint); font-size: 11px; font-family: inherit; }
svg text.label { fill: var(--ink); }
.axis { stroke: var(--faint); stroke-width: 1; }
.grid-line { stroke: var(--line); stroke-width: 1; }
.line { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line.first { stroke: var(--first); }
.line.second { stroke: var(--second); stroke-dasharray: 5 3; }
.line.wide { stroke-width: 11; stroke-dasharray: none; }
.dot.first, .bar.first { fill: var(--first); }
.dot.second, .bar.second { fill: var(--second); }
.mark { stroke: var(--ink); stroke-width: 2.5; }
.key { display: flex; flex-wrap: wrap; gap: 0.2rem 1.5rem; font-size: 0.9rem; }
.key span { display: inline-flex; align-items: center; gap: 0.4rem; }
.key svg { width: 28px; flex: none; }
.pair { margin: 1.25rem 0 1.75rem; break-inside: avoid; }
.pair figcaption { overflow-wrap: anywhere; margin-bottom: 0.35rem; }
.pair div { display: grid; grid-template-columns: 1fr 1fr; gap: 0.5rem; }
.pair img { width: 100%; height: auto; display: block; }
@media (max-width: 700px) {
  main { padding: 1rem 0.8rem 3rem; }
  .pair div { grid-template-columns: 1fr; }
  .grid { grid-template-columns: repeat(auto-fill, minmax(165px, 1fr)); gap: 0.8rem; }
  th, td { padding: 0.25rem 0.3rem; }
  .heat td { min-width: 1.9rem; padding: 0.25rem 0.1rem; }
  table { font-size: 0.78rem; }
  tbody th { max-width: 9rem; }
  .beside > section, .beside > .chart { flex-basis: 100%; }
  svg text { font-size: 14px; }
}
@media print {
  :root {
    --ink: #000; --faint: #444; --page: #fff; --panel: #f2f2f2; --line: #ccc;
    --first: #1d6fb8; --second: #c2500f;
  }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  main { max-width: none; padding: 0; }
  .scroll { overflow: visible; }
  tr { break-inside: avoid; }
}
"""


class Markup(str):
    """Text that is HTML already."""


def tag(name: str, /, *content: Any, **attributes: Any) -> Markup:
    """An element; attributes, and content that isn't markup, are escaped.

    Attributes are named as in HTML, but with _ for - and with one more _ for a Python keyword.
    """
    pairs = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(str(value))}"'
        for key, value in attributes.items()
    )
    if name in VOID_ELEMENTS:
        return Markup(f"<{name}{pairs}>")
    return Markup(f"<{name}{pairs}>{joined(*content)}</{name}>")


def joined(*parts: Any) -> Markup:
    """The parts one after the other; those that aren't markup are escaped."""
    return Markup("".join(p if isinstance(p, Markup) else html.escape(str(p)) for p in parts))


def percent(fraction: float) -> str:
    """A fraction in percent with one decimal; a dash for NaN."""
    return MISSING if math.isnan(fraction) else f"{100 * fraction:.1f}"


def short_count(count: int) -> str:
    """A count in at most four characters or so: 950, 1.2k, 34k, 1.1M."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.{1 if count < 10 * size else 0}f}{unit}"
    return str(count)


@dataclass(frozen=True)
class Cell:
    """A cell of a table: text, how strong its shade is (0 to 1), and which shade."""

    text: str
    strength: float = 0.0
    shade: str = "good"


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str | Cell]],
    *,
    style: str = "",
    over_header: Sequence[tuple[str, int]] = (),
    total_rows: int = 0,
) -> Markup:
    """An HTML table that scrolls sideways where there is no room.

    Args:
        header: the names of the columns; the first is over the names of the rows.
        rows: the name of each row, then its cells.
        style: classes of the style sheet.
        over_header: a line above the header: texts and how many columns each of them spans.
        total_rows: how many rows at the end are about all others.
    """
    head = (
        [tag("tr", *(tag("th", words, colspan=span) for words, span in over_header))]
        if over_header
        else []
    )
    head.append(
        tag("tr", *(tag("th", tag("span", name), scope="col", title=name) for name in header))
    )
    body = []
    for i, (name, *cells) in enumerate(rows):
        is_total = i >= len(rows) - total_rows
        row = joined(tag("th", name, scope="row", title=name), *map(table_cell, cells))
        body.append(tag("tr", row, **({"class_": "total"} if is_total else {})))
    whole = tag("table", tag("thead", *head), tag("tbody", *body), class_=style)
    return tag("div", whole, class_="scroll", tabindex=0)


def table_cell(cell: str | Cell) -> Markup:
    """A td element."""
    if isinstance(cell, str):
        return tag("td", cell)
    if not cell.strength > 0:
        return tag("td", cell.text)
    color = f"rgba({SHADES[cell.shade]}, {min(cell.strength, 1.0) * 0.7 + 0.06:.2f})"
    return tag("td", cell.text, style=f"background-color: {color}")


def shaded_percent(fraction: float) -> Cell:
    """A fraction in percent on a shade as strong as it is high."""
    return Cell(percent(fraction), 0.0 if math.isnan(fraction) else fraction)


def section(heading: str, explanation: str, *content: Markup) -> Markup:
    """A part of the page: its heading, what it shows and how to read it, and that."""
    words = [tag("p", explanation)] if explanation else []
    return tag("section", tag("h2", heading), *words, *content)


def beside(*parts: Markup) -> Markup:
    """Parts side by side where there is room for that."""
    return tag("div", *parts, class_="beside")


def facts(values: Mapping[str, Any]) -> Markup:
    """Names and values; those that are None are left out."""
    rows = [
        tag("tr", tag("th", name, scope="row"), tag("td", value))
        for name, value in values.items()
        if value is not None
    ]
    return tag("table", tag("tbody", *rows), class_="facts")


def card(name: str, value: str, note: str) -> Markup:
    """One large number."""
    return tag("div", tag("span", name), tag("b", value), tag("small", note), class_="card")


def embedded(image: UInt8[np.ndarray, "height width 3"], description: str) -> Markup:
    """An image inside the page, as a JPEG that isn't too wide."""
    picture = Image.fromarray(image)
    if picture.width > WIDEST:
        size = WIDEST, max(1, round(picture.height * WIDEST / picture.width))
        picture = picture.resize(size, Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=82)
    data = base64.b64encode(file.getvalue()).decode()
    source = f"data:image/jpeg;base64,{data}"
    return tag("img", src=source, alt=description, width=picture.width, height=picture.height)
