"""How vehicles are drawn: the faces that look at the camera, and wheels."""

import math

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.canvas import Canvas, Polygon, convex_hull
from m2f_jax.streets.dice import Number
from m2f_jax.streets.solids import TYRE, Part, Vehicle, Wheel
from m2f_jax.streets.view import Pose, View

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
    """A disc in a wheel, at that x of the body, as pixels."""
    return view.project_plan(pose.world(CIRCLE * radius + np.array([x, wheel.radius, wheel.z])))


def draw_tread(
    canvas: Canvas, view: View, wheel: Wheel, pose: Pose, side: int, owner: int, sunlit: bool
):
    """Draws a tyre, most of which the body then hides."""
    discs = [
        wheel_disc(view, wheel, pose, side * x, wheel.radius) for x in (wheel.x - 0.2, wheel.x)
    ]
    color = view.hazy(view.lit(TYRE, (0, 0, -1), sunlit), pose.z)
    canvas.fill([convex_hull(np.concatenate(discs))], color, owner)


def draw_hub(
    canvas: Canvas, view: View, wheel: Wheel, pose: Pose, side: int, owner: int, sunlit: bool
):
    """Draws a wheel's outer face, over the body."""
    tyre = view.hazy(view.lit(TYRE, (0, 0, -1), sunlit), pose.z)
    rim = view.hazy(view.lit(wheel.rim, (0, 0.3, -0.9), sunlit), pose.z)
    shares = ((1.0, tyre), (0.95, tyre * 1.4), (0.66, rim), (0.48, rim * 0.6), (0.22, rim))
    for share, color in shares:
        disc = wheel_disc(view, wheel, pose, side * wheel.x, wheel.radius * share)
        canvas.fill([disc], color, owner if share == 1 else None, tilt=(0, -0.3))
        if np.ptp(disc[:, 0]) < 2:
            return
