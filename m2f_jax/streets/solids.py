"""Bodies made of flat faces and wheels, seen from any side: what vehicles are built from.

A body's own coordinates are metres: x to its right, y up, z to its front.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.canvas import Color
from m2f_jax.streets.dice import Number
from m2f_jax.streets.view import Points

PAINTS = (
    (0.07, 0.07, 0.08), (0.10, 0.10, 0.12), (0.75, 0.76, 0.77), (0.55, 0.56, 0.58),
    (0.38, 0.39, 0.41), (0.86, 0.86, 0.85), (0.88, 0.88, 0.88), (0.12, 0.16, 0.30),
    (0.16, 0.25, 0.45), (0.45, 0.07, 0.08), (0.62, 0.10, 0.09), (0.18, 0.27, 0.20),
    (0.50, 0.45, 0.36), (0.65, 0.50, 0.15), (0.30, 0.22, 0.18), (0.22, 0.23, 0.25),
)  # fmt: skip
LIVERIES = (
    (0.80, 0.15, 0.12), (0.88, 0.88, 0.86), (0.90, 0.75, 0.15), (0.15, 0.30, 0.60),
    (0.20, 0.50, 0.30), (0.85, 0.80, 0.66), (0.35, 0.37, 0.40), (0.75, 0.40, 0.12),
)  # fmt: skip
BLACK = np.array([0.06, 0.06, 0.07])
DARK = np.array([0.16, 0.16, 0.17])
WHITE = np.array([0.80, 0.80, 0.78])
TAIL_LIGHT = np.array([0.60, 0.05, 0.05])
LAMP = np.array([0.85, 0.86, 0.88])

GLASS = np.array([0.10, 0.11, 0.13])
TYRE = np.array([0.09, 0.09, 0.10])


@dataclass(frozen=True, kw_only=True)
class Decal:
    """Something flat on a face: windows, lights, lines."""

    shapes: list[Points]
    color: Color
    kind: str = "paint"
    """ "paint", "glass" (shows the sky) or "glow" (gives light)."""


@dataclass(frozen=True)
class Face:
    """A flat side of a part."""

    points: Points
    color: Color
    decals: list[Decal] = field(default_factory=list)

    def place(self, across: Float[np.ndarray, "n"], along: Float[np.ndarray, "n"]) -> Points:
        """Points of a face with four corners; 0 to 1 from the first corner each way."""
        a, b, c, d = self.points
        across, along = across[:, None], along[:, None]
        return (a + (b - a) * across) * (1 - along) + (d + (c - d) * across) * along

    def add(self, color: Color, *boxes: tuple[Number, Number, Number, Number], kind: str = "paint"):
        """Puts boxes on it: from, to across (left to right) and from, to along, each 0 to 1."""
        shapes = [
            self.place(np.array([a0, a1, a1, a0], float), np.array([b0, b0, b1, b1], float))
            for a0, a1, b0, b1 in boxes
        ]
        self.decals.append(Decal(shapes=shapes, color=color, kind=kind))


@dataclass(frozen=True)
class Part:
    """A body with faces all around; seen from outside only."""

    strips: list[Face]
    """From back over the top to the front."""
    left: Face
    right: Face

    @property
    def faces(self) -> list[Face]:
        """All of them."""
        return [*self.strips, self.left, self.right]

    @property
    def centre(self) -> Float[np.ndarray, "3"]:
        """A point inside."""
        return (self.left.points.mean(axis=0) + self.right.points.mean(axis=0)) / 2

    def add_sides(
        self,
        color: Color,
        *shapes: Sequence[tuple[Number, Number]],
        width: Number | None = None,
        lean: Number = 0.0,
        kind: str = "paint",
    ):
        """Puts shapes of points (z, y) on both sides.

        Args:
            color: of all of them.
            shapes: their corners.
            width: how far from the middle they are at the ground; by default the widest point.
            lean: how much that changes per metre of height.
            kind: of the decal.
        """
        if width is None:
            width = float(self.right.points[:, 0].max())
        for face, sign in ((self.left, -1), (self.right, 1)):
            placed = [
                np.array([(sign * (width + lean * y), y, z) for z, y in shape], float)
                for shape in shapes
            ]
            face.decals.append(Decal(shapes=placed, color=color, kind=kind))


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """Two wheels, left and right, of an axle."""

    x: Number
    """The outside of the tyres."""
    z: Number
    radius: Number
    rim: Color


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """A body on wheels."""

    label_id: int
    parts: list[Part]
    wheels: list[Wheel]
    length: Number
    width: Number
    height: Number


def extrude(
    profile: Sequence[tuple[Number, Number, Number]], colors: Color | Sequence[Color]
) -> Part:
    """A part from its side view: points (z, y, half width) from the back over the top to the front.

    Args:
        profile: the points.
        colors: of the strips between them, or one of everything; the sides have the middle one.
    """
    strips = []
    each = [colors] * (len(profile) - 1) if isinstance(colors, np.ndarray) else list(colors)
    for (z0, y0, w0), (z1, y1, w1), color in zip(profile[:-1], profile[1:], each, strict=True):
        corners = [(-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1)]
        strips.append(Face(np.array(corners, float), color))
    side = each[len(each) // 2]
    left, right = (
        Face(np.array([(sign * w, y, z) for z, y, w in profile], float), side) for sign in (-1, 1)
    )
    return Part(strips, left, right)


def box(width: Number, y: tuple[Number, Number], z: tuple[Number, Number], color: Color) -> Part:
    """A part like a box: back, top and front are its strips."""
    half = width / 2
    return extrude(
        [(z[0], y[0], half), (z[0], y[1], half), (z[1], y[1], half), (z[1], y[0], half)], color
    )


def rectangle(z0: Number, z1: Number, y0: Number, y1: Number) -> list[tuple[Number, Number]]:
    """A shape for the sides of a part."""
    return [(z0, y0), (z0, y1), (z1, y1), (z1, y0)]


def arch(z: Number, y: Number, radius: Number) -> list[tuple[Number, Number]]:
    """A shape for the sides of a part: what is dark around a wheel."""
    turns = np.linspace(-0.3, np.pi + 0.3, 12).tolist()
    return [(z + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


def windows_along(
    part: Part, z: tuple[Number, Number], y: tuple[Number, Number], pane: Number, gap: Number = 0.12
):
    """A row of windows on both sides, each about as long as `pane`."""
    count = max(round((z[1] - z[0]) / pane), 1)
    step = (z[1] - z[0]) / count
    starts = [z[0] + k * step for k in range(count)]
    panes = [rectangle(start, start + step - gap, *y) for start in starts]
    part.add_sides(GLASS, *panes, kind="glass")


def mirrors(
    width: Number, y: tuple[Number, Number], z: tuple[Number, Number], color: Color
) -> list[Part]:
    """Two mirrors, that stick out of a body of that width."""
    parts = []
    for sign in (-1, 1):
        part = box(0.2, y, z, color)
        for face in part.faces:
            face.points[:, 0] += sign * (width / 2 + 0.1)
        parts.append(part)
    return parts
