"""Line and bar charts as SVG, drawn by templates/charts.html; the style sheet has their colors.

Axes: N points of a line.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from markupsafe import Markup

from .page import CHARTS, PARTS


@dataclass(frozen=True, kw_only=True)
class Frame:
    """A drawing with margins around a plot, whose y axis begins at 0 and is shown in percent."""

    width: float
    height: float
    x_range: tuple[float, float] = (0.0, 1.0)
    highest: float = 1.0
    left: float = 36.0
    right: float = 12.0
    top: float = 12.0
    bottom: float = 36.0

    def x(self, value: Any) -> Any:
        """Returns the horizontal pixel position of a value, or of an array of them."""
        low, high = self.x_range
        return self.left + (value - low) / (high - low) * (self.width - self.left - self.right)

    def y(self, value: Any) -> Any:
        """Returns the vertical pixel position of a fraction, or of an array of them."""
        return self.top + (1 - value / self.highest) * (self.height - self.top - self.bottom)


SMALL = Frame(width=250.0, height=190.0)
PERCENTS = ((0.0, "0"), (0.5, "50"), (1.0, "100"))


@dataclass(frozen=True, eq=False, kw_only=True)
class Line:
    """One line of a chart.

    Attributes:
        style: a class of the style sheet: "first" or "second".
        x: a value per point.
        y: a fraction per point.
        dots: indices of points that are marked.
    """

    style: str
    x: Float[np.ndarray, "N"]
    y: Float[np.ndarray, "N"]
    dots: Sequence[int] = ()


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar of a chart.

    Attributes:
        style: a class of the style sheet: "first", "second" or the name of a verdict.
        left: where it begins on the x axis.
        right: where it ends.
        height: a fraction; NaN for no bar.
        label: the text above it.
        mark: a fraction where a short line crosses the bar; NaN for none.
    """

    style: str
    left: float
    right: float
    height: float
    label: str
    mark: float = math.nan


def precision_chart(name: str, lines: Sequence[Line]) -> Markup:
    """Draws a small chart of precision over recall."""
    drawn = []
    for line in lines:
        points = np.stack([SMALL.x(line.x), SMALL.y(line.y)], axis=1)
        drawn.append((line.style, points[thinned(*points.T)], points[list(line.dots)]))
    title = f"Precision and recall of {name}"
    return CHARTS.line_chart(SMALL, drawn, PERCENTS, "recall %", "precision %", title)


def bar_chart(
    frame: Frame,
    bars: Sequence[Bar],
    x_ticks: Sequence[tuple[float, str]],
    x_label: str,
    y_label: str,
    title: str,
) -> Markup:
    """Draws bars over axes; the title is for screen readers."""
    return CHARTS.bar_chart(frame, bars, x_ticks, x_label, y_label, title)


def thinned(
    x: Float[np.ndarray, "N"], y: Float[np.ndarray, "N"], step: float = 0.6
) -> Int[np.ndarray, "kept"]:
    """Returns indices of points, each at least a step from the one before; both ends stay."""
    kept: list[int] = []
    for i, (a, b) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
        if not kept or max(abs(a - x[kept[-1]]), abs(b - y[kept[-1]])) >= step:
            kept.append(i)
    if len(x) and kept[-1] != len(x) - 1:
        kept.append(len(x) - 1)
    return np.array(kept, int)


def grid(panels: Sequence[tuple[str, str, Markup]]) -> Markup:
    """Lays small charts side by side, each under its name and a note."""
    return PARTS.grid(panels)


def key(entries: Sequence[tuple[str, str]]) -> Markup:
    """Returns the legend: styles of lines or bars, and what they mean."""
    return PARTS.key(entries)
