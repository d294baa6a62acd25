"""The canvas of street scenes: a color and an owner for every pixel.

Shapes are filled with exact, smooth edges; a pixel belongs to a shape that covers half of it or
more, so labels are crisp. An owner below 1000 is a label id; the others are objects.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int32

from m2f_jax.streets.drawing.randomness import Number

SUBROWS = 4  # sample lines per row of pixels; along a line, coverage is exact
GRID = 64  # vertices lie on 1/64 pixel, so rounding errors of trigonometry are gone
FIRST_OBJECT = 1000

Polygon = Float[np.ndarray, "_ 2"]  # x, y in pixels
Color = Float[np.ndarray, "3"]  # RGB, 0 to 1


@dataclass(frozen=True)
class Patch:
    """A window of the canvas, and how much of each of its pixels some shapes cover."""

    window: tuple[slice, slice]
    """Rows and columns."""
    alpha: Float[np.ndarray, "h w"]
    box: tuple[Number, Number, Number, Number]
    """Left, top, right, bottom of the shapes, parts off the canvas included."""

    @property
    def rows(self) -> Float[np.ndarray, "h 1"]:
        """The y of the pixels' centres."""
        return np.arange(self.window[0].start, self.window[0].stop)[:, None] + 0.5

    @property
    def columns(self) -> Float[np.ndarray, "1 w"]:
        """The x of the pixels' centres."""
        return np.arange(self.window[1].start, self.window[1].stop)[None] + 0.5


class Canvas:
    """An image that shapes are painted on, and the owner of every pixel."""

    def __init__(self, size: tuple[int, int]):
        self.size = size
        self.image = np.zeros((*size, 3), np.float32)
        self.owner = np.zeros(size, np.int32)
        self.object_labels: list[int] = []

    def new_object(self, label_id: int) -> int:
        """Adds an object of a class; returns the owner of its pixels."""
        self.object_labels.append(label_id)
        return FIRST_OBJECT + len(self.object_labels) - 1

    def fill(
        self,
        polygons: Sequence[Polygon],
        color: Color,
        owner: int | None = None,
        *,
        tilt: tuple[Number, Number] = (0.0, 0.0),
        opacity: Number = 1.0,
    ):
        """Fills shapes.

        Args:
            polygons: the shapes; where they overlap, what they cover adds up to 1.
            color: the color of all of them.
            owner: the new owner of the pixels; None leaves it as it is.
            tilt: how much brighter they get from left to right, and from top to bottom.
            opacity: 0 to 1.
        """
        patch = rasterise(polygons, self.size)
        if patch is None:
            return
        if any(tilt):
            left, top, right, bottom = patch.box
            across = (patch.columns - left) / max(right - left, 1) - 0.5
            down = (patch.rows - top) / max(bottom - top, 1) - 0.5
            shade = (1 + tilt[0] * across + tilt[1] * down).astype(np.float32)
            self.paint(patch, color * shade[..., None], opacity)
        else:
            self.paint(patch, color, opacity)
        if owner is not None:
            self.claim(patch, owner)

    def paint(
        self,
        patch: Patch,
        colors: Float[np.ndarray, "3"] | Float[np.ndarray, "h w 3"],
        opacity: Number | Float[np.ndarray, "h w"] = 1.0,
    ):
        """Lays colors over the image where the patch is."""
        below = self.image[patch.window]
        alpha = (patch.alpha * opacity).astype(np.float32)
        below += (colors.astype(np.float32) - below) * alpha[..., None]

    def claim(self, patch: Patch, owner: int):
        """Gives the pixels of the patch to an owner."""
        self.owner[patch.window][patch.alpha >= 0.5] = owner

    def outline(self, polygons: Sequence[Polygon], owner: int):
        """Gives the pixels of shapes to an owner and paints nothing."""
        if patch := rasterise(polygons, self.size):
            self.claim(patch, owner)

    def instance_ids(self, fewest: int) -> Int32[np.ndarray, "H W"]:
        """Returns owners as in Cityscapes: object k of a class, from 0, as class * 1000 + k.

        Args:
            fewest: an object with fewer visible pixels is part of its class's group instead.
        """
        areas = np.bincount(self.owner.ravel(), minlength=FIRST_OBJECT + len(self.object_labels))
        table = np.arange(len(areas), dtype=np.int32)
        counts: dict[int, int] = {}
        for owner, label_id in enumerate(self.object_labels, start=FIRST_OBJECT):
            if areas[owner] < fewest:
                table[owner] = label_id
            else:
                table[owner] = label_id * 1000 + counts.get(label_id, 0)
                counts[label_id] = counts.get(label_id, 0) + 1
        return table[self.owner]


def rasterise(polygons: Sequence[Polygon], size: tuple[int, int]) -> Patch | None:
    """Returns how much of every pixel the polygons cover; None if they are off the canvas."""
    lengths = np.array([len(polygon) for polygon in polygons])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    points = np.round(np.concatenate(polygons) * GRID) / GRID
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = starts
    x0, y0 = points.T
    x1, y1 = points[following].T

    left, right = max(int(np.floor(x0.min())), 0), min(int(np.ceil(x0.max())), size[1])
    top, bottom = max(int(np.floor(y0.min())), 0), min(int(np.ceil(y0.max())), size[0])
    if left >= right or top >= bottom:
        return None
    height, width = bottom - top, right - left

    # Every edge meets some sample lines; from there to the right, it covers or uncovers the row.
    clockwise = np.add.reduceat(x0 * y1 - x1 * y0, starts) > 0
    sign = np.where(np.repeat(clockwise, lengths) == (y1 > y0), -1.0, 1.0)
    limits = top * SUBROWS, bottom * SUBROWS
    first = np.ceil(np.minimum(y0, y1) * SUBROWS - 0.5).clip(*limits).astype(int)
    counts = np.ceil(np.maximum(y0, y1) * SUBROWS - 0.5).clip(*limits).astype(int) - first
    edge = np.repeat(np.arange(len(points)), counts)
    if not len(edge):
        return None
    line = np.arange(len(edge)) + np.repeat(first - np.cumsum(counts) + counts, counts)
    slope = (x1 - x0) / np.where(y1 == y0, 1, y1 - y0)
    x = (x0[edge] + ((line + 0.5) / SUBROWS - y0[edge]) * slope[edge] - left).clip(0, width)
    column = x.astype(int)
    fraction = x - column
    index = (line // SUBROWS - top) * (width + 2) + column
    sign = sign[edge] / SUBROWS
    steps = np.bincount(index, sign * (1 - fraction), height * (width + 2))
    steps += np.bincount(index + 1, sign * fraction, height * (width + 2))
    alpha = np.cumsum(steps.reshape(height, width + 2), axis=1)[:, :width]
    box = float(x0.min()), float(y0.min()), float(x0.max()), float(y0.max())
    return Patch((slice(top, bottom), slice(left, right)), alpha.clip(0, 1), box)


def convex_hull(points: Polygon) -> Polygon:
    """Returns the corners of the smallest convex polygon around the points."""
    ordered = sorted({(x, y) for x, y in points.tolist()})
    if len(ordered) < 3:
        return np.array(ordered + ordered[-1:] * (3 - len(ordered)))
    hull = []
    for run in (ordered, ordered[::-1]):
        chain: list[tuple[Number, Number]] = []
        for x, y in run:
            while len(chain) > 1 and (chain[-1][0] - chain[-2][0]) * (y - chain[-2][1]) <= (
                chain[-1][1] - chain[-2][1]
            ) * (x - chain[-2][0]):
                chain.pop()
            chain.append((x, y))
        hull += chain[:-1]
    return np.array(hull)


def inside(polygon: Polygon, x: Number, y: Number) -> bool:
    """Returns whether a point lies in a polygon."""
    x0, y0 = polygon.T
    x1, y1 = np.roll(polygon, -1, axis=0).T
    crossed = (y0 > y) != (y1 > y)
    at = x0 + (y - y0) * (x1 - x0) / np.where(crossed, y1 - y0, 1)
    return bool(np.count_nonzero(crossed & (at > x)) % 2)
