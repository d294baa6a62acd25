"""Charts as SVG; pure functions. Their colors are in the style sheet of `page`.

Axes: N points of a line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from .page import Markup, joined, tag


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A drawing with margins around a plot, whose y axis goes from 0 to 1, shown in percent."""

    width: float
    height: float
    x_range: tuple[float, float] = (0.0, 1.0)
    left: float = 36.0
    right: float = 12.0
    top: float = 12.0
    bottom: float = 36.0

    def x(self, value: float) -> float:
        """Where a value of the x axis is drawn."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: float) -> float:
        """Where a value of the y axis is drawn."""
        return self.top + (1 - value) * (self.height - self.top - self.bottom)


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """One line of a chart.

    Attributes:
        style: a class of the style sheet: "first", "second" or "guide".
        x: a value per point.
        y: a fraction per point.
        dot: indices of points that are marked.
    """

    style: str
    x: Float[np.ndarray, "N"]
    y: Float[np.ndarray, "N"]
    dot: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a chart.

    Attributes:
        style: a class of the style sheet: "first" or "second".
        left: where it begins on the x axis.
        right: where it ends.
        height: a fraction; NaN for no bar.
        label: what stands above it.
        mark: a fraction where a line crosses the bar; NaN for none.
    """

    style: str
    left: float
    right: float
    height: float
    label: str
    mark: float = math.nan


def line_chart(
    frame: Frame,
    lines: Sequence[Line],
    x_ticks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
    title: str,
) -> Markup:
    """Lines over axes; the title is for screen readers."""
    drawn = []
    for line in lines:
        x = np.array([frame.x(value) for value in line.x.tolist()], float)
        y = np.array([frame.y(value) for value in line.y.tolist()], float)
        kept = thinned(x, y)
        points = " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x[kept], y[kept], strict=True))
        drawn.append(tag("polyline", points=points, class_=f"line {line.style}"))
        drawn += [
            tag("circle", cx=f"{x[i]:.1f}", cy=f"{y[i]:.1f}", r=3.5, class_=f"dot {line.style}")
            for i in line.dot
        ]
    return drawing(frame, axes(frame, x_ticks, x_label, y_label), *drawn, title=title)


def bar_chart(
    frame: Frame,
    bars: Sequence[Bar],
    x_ticks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
    title: str,
) -> Markup:
    """Bars over axes; the title is for screen readers."""
    drawn = []
    for bar in bars:
        left, right = frame.x(bar.left), frame.x(bar.right)
        height = 0.0 if math.isnan(bar.height) else bar.height
        top = frame.y(height)
        drawn.append(
            tag(
                "rect",
                x=f"{left:.1f}",
                y=f"{top:.1f}",
                width=f"{right - left:.1f}",
                height=f"{frame.y(0.0) - top:.1f}",
                class_=f"bar {bar.style}",
            )
        )
        above = top if math.isnan(bar.mark) else min(top, frame.y(bar.mark))
        middle = (left + right) / 2
        drawn.append(text(middle, above - 4, bar.label, "middle", "label"))
        if not math.isnan(bar.mark):
            at = f"{frame.y(bar.mark):.1f}"
            ends = {"x1": f"{left - 2:.1f}", "x2": f"{right + 2:.1f}"}
            drawn.append(tag("line", y1=at, y2=at, class_="mark", **ends))
    return drawing(frame, axes(frame, x_ticks, x_label, y_label), *drawn, title=title)


def drawing(frame: Frame, *content: Markup, title: str) -> Markup:
    """The SVG element around a chart."""
    box = f"0 0 {frame.width:g} {frame.height:g}"
    return tag("svg", *content, viewBox=box, role="img", aria_label=title, class_="chart")


def axes(frame: Frame, x_ticks: Sequence[tuple[float, str]], x_label: str, y_label: str) -> Markup:
    """Grid lines, ticks and the names of both axes."""
    left, right = frame.left, frame.width - frame.right
    bottom = frame.y(0.0)
    parts = []
    for value in (0.0, 0.25, 0.5, 0.75, 1.0):
        y = f"{frame.y(value):.1f}"
        style = "axis" if value == 0 else "grid-line"
        parts.append(tag("line", x1=left, x2=f"{right:.1f}", y1=y, y2=y, class_=style))
        if value in (0, 0.5, 1):
            parts.append(text(left - 5, frame.y(value) + 4, f"{100 * value:.0f}", "end"))
    for value, label in x_ticks:
        for i, row in enumerate(label.split("\n")):
            parts.append(text(frame.x(value), bottom + 15 + 14 * i, row, "middle"))
    middle = frame.top + (bottom - frame.top) / 2
    turned = f"rotate(-90 9 {middle:.1f})"
    parts.append(text((left + right) / 2, frame.height - 4, x_label, "middle", "name"))
    parts.append(text(9.0, middle, y_label, "middle", "name", transform=turned))
    return joined(*parts)


def text(x: float, y: float, content: str, anchor: str, style: str = "tick", **more: str) -> Markup:
    """A piece of text in a drawing; anchor is "start", "middle" or "end"."""
    place = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text_anchor": anchor}
    return tag("text", content, **place, class_=style, **more)


def thinned(
    x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"], step: float = 0.6
) -> Int[np.ndarray, "kept"]:
    """The points that are needed: each is a step away from the one before; both ends stay."""
    kept: list[int] = []
    for i, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if not kept or max(abs(a - x[kept[-1]]), abs(b - y[kept[-1]])) >= step:
            kept.append(i)
    if len(x) and kept[-1] != len(x) - 1:
        kept.append(len(x) - 1)
    return np.array(kept, int)


def grid(panels: Sequence[tuple[str, str, Markup]]) -> Markup:
    """Small charts side by side, each under its name and a note."""
    figures = [
        tag("figure", tag("figcaption", tag("b", name), " ", tag("span", note)), chart)
        for name, note, chart in panels
    ]
    return tag("div", *figures, class_="grid")


def key(entries: Sequence[tuple[str, str]]) -> Markup:
    """What lines or bars of each style mean."""
    items = []
    for style, words in entries:
        line = tag("line", x1=1, y1=6, x2=27, y2=6, class_=f"line {style}")
        items.append(tag("span", tag("svg", line, viewBox="0 0 28 12", aria_hidden="true"), words))
    return tag("p", *items, class_="key")
