"""Vehicles: bodies made of flat faces and wheels, and how they are drawn from any side.

A body's own coordinates are metres: x to its right, y up, z to its front.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Canvas, Color, Polygon, convex_hull
from m2f_jax.streets.drawing.randomness import Number
from m2f_jax.streets.drawing.view import Points, Pose, View

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
        """Returns points from fractions across and along a face with four corners."""
        a, b, c, d = self.points
        across, along = across[:, None], along[:, None]
        return (a + (b - a) * across) * (1 - along) + (d + (c - d) * across) * along

    def add(self, color: Color, *boxes: tuple[Number, Number, Number, Number], kind: str = "paint"):
        """Adds boxes, each as fractions: from and to across (left to right), from and to along."""
        shapes = [
            self.place(np.array([a0, a1, a1, a0], float), np.array([b0, b0, b1, b1], float))
            for a0, a1, b0, b1 in boxes
        ]
        self.decals.append(Decal(shapes=shapes, color=color, kind=kind))


@dataclass(frozen=True)
class Part:
    """A body with faces all around; seen from outside only."""

    strips: list[Face]
    """The faces from the back over the top to the front."""
    left: Face
    right: Face

    @property
    def faces(self) -> list[Face]:
        """All faces."""
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
            color: the color of all of them.
            shapes: their corners.
            width: how far from the middle they are at the ground; by default the widest point.
            lean: how much that changes per metre of height.
            kind: the kind of decal.
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
    """Returns a part from its side view.

    Args:
        profile: points (z, y, half width) from the back over the top to the front.
        colors: the colors of the strips between them, or one color; the sides have the middle one.
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
    """Returns a part like a box: back, top and front are its strips."""
    half = width / 2
    return extrude(
        [(z[0], y[0], half), (z[0], y[1], half), (z[1], y[1], half), (z[1], y[0], half)], color
    )


def rectangle(z0: Number, z1: Number, y0: Number, y1: Number) -> list[tuple[Number, Number]]:
    """Returns the corners of a rectangle for the sides of a part."""
    return [(z0, y0), (z0, y1), (z1, y1), (z1, y0)]


def arch(z: Number, y: Number, radius: Number) -> list[tuple[Number, Number]]:
    """Returns the corners of a shape for the sides of a part: the dark arch around a wheel."""
    turns = np.linspace(-0.3, np.pi + 0.3, 12).tolist()
    return [(z + radius * math.cos(turn), y + radius * math.sin(turn)) for turn in turns]


def windows_along(
    part: Part, z: tuple[Number, Number], y: tuple[Number, Number], pane: Number, gap: Number = 0.12
):
    """Adds a row of windows to both sides, each about as long as `pane`."""
    count = max(round((z[1] - z[0]) / pane), 1)
    step = (z[1] - z[0]) / count
    starts = [z[0] + k * step for k in range(count)]
    panes = [rectangle(start, start + step - gap, *y) for start in starts]
    part.add_sides(GLASS, *panes, kind="glass")


def mirrors(
    width: Number, y: tuple[Number, Number], z: tuple[Number, Number], color: Color
) -> list[Part]:
    """Returns two mirrors that stick out of a body of that width."""
    parts = []
    for sign in (-1, 1):
        part = box(0.2, y, z, color)
        for face in part.faces:
            face.points[:, 0] += sign * (width / 2 + 0.1)
        parts.append(part)
    return parts


TURNS = np.linspace(0, 2 * np.pi, 18, endpoint=False)
CIRCLE = np.stack([0 * TURNS, np.cos(TURNS), np.sin(TURNS)], axis=1)


def draw_vehicle(
    canvas: Canvas, view: View, vehicle: Vehicle, pose: Pose, owner: int, sunlit: bool
):
    """Draws a vehicle: wheels of the far side, bodies from far to near, wheels of the near side."""
    eye = np.array([0, view.height, 0])
    back, middle, front = view.bent(pose.world(np.array([[0.0, 0, -1], [0, 0, 0], [0, 0, 1]])))
    right = (front - back)[[2, 1, 0]] * np.array([1, 0, -1])  # at right angles to its sides
    near_side = 1 if float((right * (eye - middle)).sum()) > 0 else -1
    for side in (-near_side, near_side):
        for wheel in vehicle.wheels:
            draw_tread(canvas, view, wheel, pose, side, owner, sunlit)

    def distance(part: Part) -> float:
        x, _, z = view.bent(pose.world(part.centre[None]))[0].tolist()
        return round(math.hypot(x, z), 5)

    for part in sorted(vehicle.parts, key=distance, reverse=True):
        draw_part(canvas, view, part, pose, owner, sunlit, eye)
    for wheel in vehicle.wheels:
        outside = view.bent(pose.world(np.array([[near_side * wheel.x, 0, wheel.z]])))[0]
        if float((near_side * right * (eye - outside)).sum()) > 0:
            draw_hub(canvas, view, wheel, pose, near_side, owner, sunlit)


def draw_part(
    canvas: Canvas,
    view: View,
    part: Part,
    pose: Pose,
    owner: int,
    sunlit: bool,
    eye: Float[np.ndarray, "3"],
):
    """Draws the faces that look at the camera."""
    inside = view.bent(pose.world(part.centre[None]))[0]
    visible = []
    for face in part.faces:
        points = view.bent(pose.world(face.points))
        centre = points.mean(axis=0)
        normal = np.cross(points, np.roll(points, -1, axis=0)).sum(axis=0)
        normal = normal / max(float(np.sqrt((normal**2).sum())), 1e-9)
        if float((normal * (centre - inside)).sum()) < 0:
            normal = -normal
        if float((normal * (eye - centre)).sum()) > 0:
            visible.append((float(((centre - eye) ** 2).sum()), face, points, normal))
    for _, face, points, normal in sorted(visible, key=lambda entry: -entry[0]):
        z = float(points[:, 2].mean())
        direction = tuple(normal.tolist())
        color = view.lit(face.color, direction, sunlit)
        color = color + (view.weather.zenith - color) * (0.05 + 0.22 * max(normal[1], 0))
        outline = view.project(points)
        canvas.fill([outline], view.hazy(color, z), owner, tilt=(0.06, -0.30))
        if np.ptp(outline, axis=0).max() < 4:
            continue
        for decal in face.decals:
            shapes = [view.project_plan(pose.world(shape)) for shape in decal.shapes]
            shapes = [shape for shape in shapes if np.ptp(shape, axis=0).max() > 0.7]
            if not shapes:
                continue
            tilt = (0.0, -0.2)
            if decal.kind == "glow":
                shade = decal.color
            elif decal.kind == "glass":
                sky = view.weather.horizon * view.weather.ambient.mean()
                shade = decal.color + sky * (0.12 + 0.3 * max(normal[1], 0))
                tilt = (0.25, -0.9)
            else:
                shade = view.lit(decal.color, direction, sunlit)
            canvas.fill(shapes, view.hazy(shade, z), tilt=tilt)


def wheel_disc(view: View, wheel: Wheel, pose: Pose, x: Number, radius: Number) -> Polygon:
    """Returns a disc in a wheel, at that x of the body, as pixels."""
    return view.project_plan(pose.world(CIRCLE * radius + np.array([x, wheel.radius, wheel.z])))


def draw_tread(
    canvas: Canvas, view: View, wheel: Wheel, pose: Pose, side: int, owner: int, sunlit: bool
):
    """Draws a tyre, most of which the body then hides."""
    discs = [
        wheel_disc(view, wheel, pose, side * x, wheel.radius) for x in (wheel.x - 0.2, wheel.x)
    ]
    color = view.seen(TYRE, pose.z, sunlit)
    canvas.fill([convex_hull(np.concatenate(discs))], color, owner)


def draw_hub(
    canvas: Canvas, view: View, wheel: Wheel, pose: Pose, side: int, owner: int, sunlit: bool
):
    """Draws a wheel's outer face, over the body."""
    tyre = view.seen(TYRE, pose.z, sunlit)
    rim = view.seen(wheel.rim, pose.z, sunlit, (0, 0.3, -0.9))
    shares = ((1.0, tyre), (0.95, tyre * 1.4), (0.66, rim), (0.48, rim * 0.6), (0.22, rim))
    for share, color in shares:
        disc = wheel_disc(view, wheel, pose, side * wheel.x, wheel.radius * share)
        canvas.fill([disc], color, owner if share == 1 else None, tilt=(0, -0.3))
        if np.ptp(disc[:, 0]) < 2:
            return
