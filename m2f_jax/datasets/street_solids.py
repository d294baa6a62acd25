"""Bodies made of flat faces and wheels, seen from any side: what vehicles are built from.

A body's own coordinates are metres: x to its right, y up, z to its front.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from m2f_jax.datasets.street_canvas import Canvas, Colour, convex_hull
from m2f_jax.datasets.street_view import Points, View

GLASS = np.array([0.10, 0.11, 0.13])
TYRE = np.array([0.09, 0.09, 0.10])


@dataclass(frozen=True, kw_only=True)
class Decal:
    """Something flat on a face: windows, lights, lines."""

    shapes: list[Points]
    colour: Colour
    kind: str = "paint"
    """ "paint", "glass" (shows the sky) or "glow" (gives light)."""


@dataclass(frozen=True)
class Face:
    """A flat side of a part."""

    points: Points
    colour: Colour
    decals: list[Decal] = field(default_factory=list)

    def place(self, across: float, along: float) -> list[float]:
        """A point of a face with four corners; 0 to 1 from the first corner each way."""
        a, b, c, d = self.points
        point = (a + (b - a) * across) * (1 - along) + (d + (c - d) * across) * along
        return point.tolist()

    def add(
        self, colour: Colour, *boxes: tuple[float, float, float, float], kind: str = "paint"
    ):
        """Puts boxes on it: from, to across (left to right) and from, to along, each 0 to 1."""
        shapes = [
            np.array([self.place(a0, b0), self.place(a1, b0), self.place(a1, b1), self.place(a0, b1)])
            for a0, a1, b0, b1 in boxes
        ]
        self.decals.append(Decal(shapes=shapes, colour=colour, kind=kind))


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
        colour: Colour,
        *shapes: Sequence[tuple[float, float]],
        width: float | None = None,
        slope: tuple[float, float, float] | None = None,
        kind: str = "paint",
    ):
        """Puts shapes of points (z, y) on both sides.

        Args:
            colour: of all of them.
            shapes: their corners.
            width: how far from the middle they are; by default as far as the widest point.
            slope: (y, width, change of width per metre of height), for sides that lean.
            kind: of the decal.
        """
        widest = float(self.right.points[:, 0].max()) if width is None else width
        for face, sign in ((self.left, -1), (self.right, 1)):
            placed = []
            for shape in shapes:
                points = [
                    (sign * (slope[1] + slope[2] * (y - slope[0]) if slope else widest), y, z)
                    for z, y in shape
                ]
                placed.append(np.array(points, float))
            face.decals.append(Decal(shapes=placed, colour=colour, kind=kind))


@dataclass(frozen=True, kw_only=True)
class Wheel:
    """Two wheels, left and right, of an axle."""

    x: float
    """The outside of the tyres."""
    z: float
    radius: float
    rim: Colour


@dataclass(frozen=True, kw_only=True)
class Vehicle:
    """A body on wheels."""

    label_id: int
    parts: list[Part]
    wheels: list[Wheel]
    length: float
    width: float
    height: float


def extrude(
    profile: Sequence[tuple[float, float, float]], colours: Colour | Sequence[Colour]
) -> Part:
    """A part from its side view: points (z, y, half width) from the back over the top to the front.

    Args:
        profile: the points.
        colours: of the strips between them, or one of everything; the sides have the middle one.
    """
    strips = []
    each = [colours] * (len(profile) - 1) if isinstance(colours, np.ndarray) else list(colours)
    for (z0, y0, w0), (z1, y1, w1), colour in zip(profile[:-1], profile[1:], each, strict=True):
        corners = [(-w0, y0, z0), (w0, y0, z0), (w1, y1, z1), (-w1, y1, z1)]
        strips.append(Face(np.array(corners, float), colour))
    side = each[len(each) // 2]
    left, right = (
        Face(np.array([(sign * w, y, z) for z, y, w in profile], float), side) for sign in (-1, 1)
    )
    return Part(strips, left, right)


def box(
    width: float, y: tuple[float, float], z: tuple[float, float], colour: Colour
) -> Part:
    """A part like a box: back, top and front are its strips."""
    half = width / 2
    return extrude([(z[0], y[0], half), (z[0], y[1], half), (z[1], y[1], half), (z[1], y[0], half)],
                   colour)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Pose:
    """Where a body stands in the plan, and how far it is turned; 0 looks ahead, pi/2 right."""

    x: float
    z: float
    heading: float

    def world(self, points: Points) -> Points:
        """Points of the body in the plan."""
        x, y, z = points.T
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return np.stack([self.x + x * cos + z * sin, y, self.z - x * sin + z * cos], axis=1)

    def footprint(self, width: float, length: float) -> tuple[float, float, float, float]:
        """The rectangle of the plan around a body of that size."""
        cos, sin = abs(math.cos(self.heading)), abs(math.sin(self.heading))
        x, z = (width * cos + length * sin) / 2, (width * sin + length * cos) / 2
        return self.x - x, self.x + x, self.z - z, self.z + z


def draw_vehicle(
    canvas: Canvas, view: View, vehicle: Vehicle, pose: Pose, owner: int, sunlit: bool
):
    """Draws a vehicle: wheels of the far side, bodies from far to near, wheels of the near side."""
    eye = np.array([0, view.height, 0])
    middle = view.bent(pose.world(np.zeros((1, 3))))[0]
    right = view.bent(pose.world(np.array([[1.0, 0, 0]])))[0] - middle
    near_side = 1 if float((right * (eye - middle)).sum()) > 0 else -1
    for wheel in vehicle.wheels:
        draw_wheel(canvas, view, wheel, pose, -near_side, owner, sunlit)

    def distance(part: Part) -> float:
        return float(np.hypot(*(view.bent(pose.world(part.centre[None]))[0] - eye)[[0, 2]]))

    for part in sorted(vehicle.parts, key=distance, reverse=True):
        draw_part(canvas, view, part, pose, owner, sunlit, eye)
    for wheel in vehicle.wheels:
        draw_wheel(canvas, view, wheel, pose, near_side, owner, sunlit)


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
        colour = view.lit(face.colour, direction, sunlit)
        colour = colour + (view.weather.zenith - colour) * (0.05 + 0.22 * max(normal[1], 0))
        canvas.fill([view.project(points)], view.hazy(colour, z), owner, tilt=(0.06, -0.30))
        for decal in face.decals:
            shapes = [view.project_plan(pose.world(shape)) for shape in decal.shapes]
            shapes = [shape for shape in shapes if np.ptp(shape, axis=0).max() > 0.7]
            if not shapes:
                continue
            tilt = (0.0, -0.2)
            if decal.kind == "glow":
                shade = decal.colour
            elif decal.kind == "glass":
                sky = view.weather.horizon * view.weather.ambient.mean()
                shade = decal.colour + sky * (0.12 + 0.3 * max(normal[1], 0))
                tilt = (0.25, -0.9)
            else:
                shade = view.lit(decal.colour, direction, sunlit)
            canvas.fill(shapes, view.hazy(shade, z), tilt=tilt)


def draw_wheel(
    canvas: Canvas, view: View, wheel: Wheel, pose: Pose, side: int, owner: int, sunlit: bool
):
    """Draws the wheel on one side of an axle."""
    turns = np.linspace(0, 2 * np.pi, 18, endpoint=False)
    circle = np.stack([0 * turns, np.cos(turns), np.sin(turns)], axis=1)

    def disc(x: float, radius: float) -> np.ndarray:
        centre = np.array([side * x, wheel.radius, wheel.z])
        return view.project_plan(pose.world(centre + circle * radius))

    colour = view.hazy(view.lit(TYRE, (0, 0, -1), sunlit), pose.z)
    inner, outer = disc(wheel.x - 0.22, wheel.radius), disc(wheel.x, wheel.radius)
    canvas.fill([convex_hull(np.concatenate([inner, outer]))], colour, owner)
    if np.ptp(outer[:, 0]) > 2:
        canvas.fill([disc(wheel.x + 0.01, wheel.radius * 0.95)], colour * 1.4)
        rim = view.hazy(view.lit(wheel.rim, (0, 0.3, -0.9), sunlit), pose.z)
        canvas.fill([disc(wheel.x + 0.01, wheel.radius * 0.66)], rim, tilt=(0, -0.4))
        canvas.fill([disc(wheel.x + 0.01, wheel.radius * 0.48)], rim * 0.6)
        canvas.fill([disc(wheel.x + 0.01, wheel.radius * 0.22)], rim)
