"""Bicycles and motorcycles; as in Cityscapes, what is seen through a wheel belongs to the wheel."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from m2f_jax.streets.drawing.canvas import Canvas, Color, Polygon
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.view import Pose, View
from m2f_jax.streets.things.figures import Ball, Limb, draw_limbs, hull_of_balls, limb, tube

MOTORCYCLE, BICYCLE = 32, 33
RUBBER = np.array([0.08, 0.08, 0.09])
CHROME = np.array([0.62, 0.63, 0.65])
HEADLIGHT, TAIL_LIGHT = np.array([0.95, 0.95, 0.9]), np.array([0.75, 0.08, 0.06])
PAINTS = (
    (0.08, 0.08, 0.09), (0.60, 0.12, 0.12), (0.14, 0.25, 0.50), (0.75, 0.75, 0.76),
    (0.20, 0.40, 0.28), (0.85, 0.65, 0.15), (0.45, 0.46, 0.48), (0.55, 0.75, 0.80),
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Cycle:
    """A two-wheeler: its wheels, its other parts, and the outline of what it encloses."""

    label_id: int
    wheels: tuple[Number, Number]
    """The z of the axles."""
    radius: Number
    tyre: Number
    """Half the thickness of a tyre."""
    rim: Color
    spokes: bool
    limbs: list[Limb]
    enclosed: Sequence[Ball]


def bicycle(rng: Random) -> Cycle:
    """Returns a bicycle."""
    paint = rng.color(*PAINTS)
    rear, front, hub = (0.0, 0.34, -0.52), (0.0, 0.34, 0.54), (0.0, 0.29, -0.08)
    seat, stem, joint = (0.0, 0.86, -0.24), (0.0, 0.86, 0.36), (0.0, 0.70, 0.38)
    upper = (0.0, 0.48, -0.14) if rng.chance(0.4) else (0.0, 0.80, -0.22)
    grips = (-0.27, 1.03, 0.22), (-0.1, 1.03, 0.36), (0.1, 1.03, 0.36), (0.27, 1.03, 0.22)
    pedals = (0.1, 0.44, -0.16), (0.06, 0.29, -0.08), (-0.1, 0.14, 0.0)
    limbs = [
        limb(paint, *tube(stem, front, radius=0.021), *tube(stem, (0, 1.0, 0.33), radius=0.018)),
        limb(
            paint, *tube(rear, hub, joint, upper, rear, radius=0.02), [(*hub, 0.02), (*seat, 0.02)]
        ),
        limb(CHROME * 0.6, *tube(*grips, radius=0.019)),
        limb(RUBBER, [(0, 0.96, -0.30, 0.07), (0, 0.97, -0.12, 0.03)]),
        limb(CHROME, *tube(seat, (0, 0.95, -0.24), radius=0.016)),
        limb(CHROME * 0.7, *tube(*pedals, radius=0.018)),
    ]
    if rng.chance(0.5):  # mudguards
        for z in (-0.52, 0.54):
            turns = [0.2 + 0.48 * k for k in range(6)]
            arc = [(0.0, 0.34 + 0.375 * math.sin(t), z + 0.375 * math.cos(t)) for t in turns]
            limbs.append(limb(paint * 0.7, *tube(*arc, radius=0.022)))
    if rng.chance(0.3):
        basket = [(x, y, z, 0.02) for x in (-0.15, 0.15) for y in (0.82, 1.0) for z in (0.45, 0.7)]
        limbs.append(limb(rng.color((0.35, 0.25, 0.15), (0.15, 0.15, 0.15)), basket))
    if rng.chance(0.4):
        limbs.append(limb(TAIL_LIGHT, [(0, 0.62, -0.82, 0.035)]))
        limbs.append(limb(HEADLIGHT, [(0, 0.86, 0.45, 0.045)]))
    return Cycle(
        label_id=BICYCLE,
        wheels=(-0.52, 0.54),
        radius=0.34,
        tyre=0.024,
        rim=CHROME,
        spokes=True,
        limbs=limbs,
        enclosed=[(*point, 0.03) for point in (rear, hub, seat, stem, joint)],
    )


def motorcycle(rng: Random) -> Cycle:
    """Returns a motorcycle or a scooter."""
    paint = rng.color(*PAINTS)
    scooter = rng.chance(0.4)
    grips = (-0.34, 1.04, 0.34), (-0.1, 1.0, 0.44), (0.1, 1.0, 0.44), (0.34, 1.04, 0.34)
    plate = [(x, *at, 0.02) for x in (-0.08, 0.08) for at in ((0.55, -0.98), (0.7, -0.95))]
    limbs = [
        limb(CHROME * 0.6, *tube((0, 0.92, 0.48), (0, 0.32, 0.68), radius=0.045)),
        limb(RUBBER, *tube(*grips, radius=0.022)),
        limb(RUBBER * 1.5, *([(side * 0.32, 1.22, 0.36, 0.05)] for side in (-1, 1))),
        limb(RUBBER * 1.5, *tube((-0.3, 1.2, 0.36), (-0.22, 1.02, 0.4), radius=0.012)),
        limb(RUBBER * 2, [(0, 0.88, 0.58, 0.10), (0, 0.88, 0.52, 0.11)]),
        limb(HEADLIGHT, [(0, 0.88, 0.66, 0.075)]),
        limb(RUBBER, [(0, 0.82, -0.45, 0.1), (0, 0.80, 0.0, 0.11), (0, 0.86, -0.7, 0.07)]),
        limb(TAIL_LIGHT, [(0, 0.75, -0.78, 0.05)]),
        limb(np.array([0.85, 0.85, 0.83]), plate),
    ]
    if scooter:
        rear = [(0, 0.35, -0.75, 0.13), (0, 0.68, -0.75, 0.15), (0, 0.68, -0.2, 0.13)]
        floor = [(x, 0.25, z, 0.04) for x in (-0.17, 0.17) for z in (-0.25, 0.4)]
        shield = [(side * 0.2, 0.4, 0.42, 0.04) for side in (-1, 1)]
        shield += [(side * 0.16, 0.92, 0.48, 0.05) for side in (-1, 1)]
        limbs += [limb(paint, [*rear, (0, 0.33, -0.3, 0.12)]), limb(RUBBER * 2, floor)]
        limbs.append(limb(paint, shield))
    else:
        tank = [(0, 0.88, 0.1, 0.15), (0, 0.84, 0.36, 0.13), (0, 0.78, -0.1, 0.1)]
        engine = [(0, 0.45, -0.1, 0.17), (0, 0.42, 0.25, 0.16), (0, 0.62, 0.12, 0.16)]
        guards = (
            [(0, 0.6, 0.7, 0.06), (0, 0.68, 0.5, 0.06)],
            [(0, 0.78, -0.55, 0.1), (0, 0.76, -0.8, 0.08)],
        )
        limbs += [limb(paint, tank), limb(RUBBER * 2.5, engine), limb(paint, *guards)]
        limbs.append(limb(CHROME, *tube((0.2, 0.36, 0.1), (0.22, 0.36, -0.85), radius=0.05)))
        limbs.append(limb(RUBBER * 2, *tube((0, 0.34, -0.68), (0, 0.4, -0.05), radius=0.06)))
    radius = 0.25 if scooter else 0.32
    return Cycle(
        label_id=MOTORCYCLE,
        wheels=(-0.66, 0.70),
        radius=radius,
        tyre=0.065,
        rim=CHROME * 0.7,
        spokes=False,
        limbs=limbs,
        enclosed=[
            (0, radius, -0.68, 0.1),
            (0, radius, 0.66, 0.1),
            (0, 0.85, 0.5, 0.1),
            (0, 0.8, -0.6, 0.1),
        ],
    )


def draw_cycle(canvas: Canvas, view: View, cycle: Cycle, pose: Pose, owner: int, sunlit: bool):
    """Draws a two-wheeler; a rider is drawn afterwards, over it."""
    canvas.outline([hull_of_balls(view, np.array(cycle.enclosed, float), pose)], owner)
    rubber = view.seen(RUBBER, pose.z, sunlit)
    metal = view.seen(cycle.rim, pose.z, sunlit)
    for z in cycle.wheels:
        outside = circle(view, pose, z, cycle.radius, cycle.radius)
        canvas.outline([outside], owner)
        # Seen from the front, a wheel is as wide as its tyre.
        edge = [(0.0, y, z, cycle.tyre) for y in (cycle.tyre, 2 * cycle.radius - cycle.tyre)]
        if np.ptp(outside[:, 0]) < 0.5 * np.ptp(outside[:, 1]):
            canvas.fill([hull_of_balls(view, np.array(edge), pose)], rubber, owner)
        if cycle.spokes:
            canvas.fill(rays(view, pose, z, cycle.radius), metal, opacity=0.35)
        else:
            disc = circle(view, pose, z, cycle.radius, cycle.radius * 0.62)
            canvas.fill([disc], metal * 0.7)
        rims = [(1.0, rubber), (1 - 1.7 * cycle.tyre / cycle.radius, metal)]
        for share, color in rims:
            inner = share - (2.0 if share == 1 else 0.7) * cycle.tyre / cycle.radius
            canvas.fill([ring(view, pose, z, cycle.radius, share, inner)], color, owner)
    draw_limbs(canvas, view, cycle.limbs, pose, owner, sunlit)


def circle(view: View, pose: Pose, z: Number, height: Number, radius: Number) -> Polygon:
    """Returns a circle in the plane of the cycle, as pixels."""
    turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    y, along = height + radius * np.sin(turns), z + radius * np.cos(turns)
    points = np.stack([0 * turns, y, along], axis=1)
    return view.project_plan(pose.world(points))


def ring(
    view: View, pose: Pose, z: Number, radius: Number, outer: Number, inner: Number
) -> Polygon:
    """Returns a ring between two shares of the radius, as one polygon around and back inside."""
    outside = circle(view, pose, z, radius, radius * outer)
    inside = circle(view, pose, z, radius, radius * inner)
    return np.concatenate([outside, outside[:1], inside[:1], inside[::-1]])


def rays(view: View, pose: Pose, z: Number, radius: Number) -> list[Polygon]:
    """Returns thin spokes."""
    rim = circle(view, pose, z, radius, radius * 0.92)[::2]
    hub = circle(view, pose, z, radius, radius * 0.06)[::2]
    side = np.roll(rim, -1, axis=0) * 0.05 + rim * 0.95
    return [np.stack([a, b, c]) for a, b, c in zip(hub, rim, side, strict=True)]
