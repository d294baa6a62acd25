"""People, on foot and on two wheels: bodies of rounded limbs, seen from any side.

A limb is the hull of a few balls (x, y, z, radius), in metres: x to the right of who walks or
rides, y up, z ahead.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Canvas, Color, Polygon, convex_hull
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.view import Pose, View

TURNS = np.arange(14) * (2 * np.pi / 14)
CIRCLE = np.stack([np.cos(TURNS), np.sin(TURNS)], axis=1)

Ball = tuple[Number, Number, Number, Number]

SKINS = ((0.85, 0.66, 0.55), (0.78, 0.58, 0.46), (0.60, 0.42, 0.32), (0.38, 0.26, 0.20))
HAIRS = ((0.10, 0.08, 0.07), (0.25, 0.16, 0.10), (0.50, 0.38, 0.22), (0.62, 0.60, 0.58),
         (0.35, 0.18, 0.10))  # fmt: skip
CLOTHES = (
    (0.10, 0.10, 0.12), (0.14, 0.17, 0.27), (0.30, 0.31, 0.33), (0.55, 0.54, 0.52),
    (0.82, 0.81, 0.78), (0.58, 0.13, 0.14), (0.20, 0.32, 0.50), (0.24, 0.33, 0.22),
    (0.48, 0.38, 0.27), (0.72, 0.56, 0.25), (0.45, 0.25, 0.40), (0.80, 0.45, 0.40),
)  # fmt: skip
TROUSERS = (
    (0.10, 0.10, 0.12), (0.14, 0.18, 0.30), (0.22, 0.28, 0.42), (0.25, 0.25, 0.26),
    (0.46, 0.42, 0.35), (0.32, 0.25, 0.20), (0.55, 0.55, 0.55),
)  # fmt: skip


@dataclass(frozen=True)
class Limb:
    """Rounded parts of one color; each is the hull of some balls."""

    color: Color
    hulls: Sequence[Sequence[Ball]]


def limb(color: Color, *hulls: Sequence[Ball]) -> Limb:
    """Returns a limb of some hulls."""
    return Limb(color, hulls)


def tube(*points: tuple[Number, Number, Number], radius: Number) -> list[list[Ball]]:
    """Returns the hulls of a bent tube."""
    return [[(*a, radius), (*b, radius)] for a, b in itertools.pairwise(points)]


def draw_limbs(
    canvas: Canvas, view: View, limbs: Sequence[Limb], pose: Pose, owner: int, sunlit: bool
):
    """Draws limbs from far to near."""
    cos, sin = math.cos(pose.heading), math.sin(pose.heading)

    def distance(limb: Limb) -> float:
        x, _, z, _ = np.array([ball for hull in limb.hulls for ball in hull]).mean(axis=0)
        # Rounded, so that errors of the last digit don't decide between a left and a right hand.
        return round(math.hypot(pose.x + x * cos + z * sin, pose.z - x * sin + z * cos), 5)

    side = view.weather.sun_direction[0] if sunlit else 0.25
    for limb in sorted(limbs, key=distance, reverse=True):
        shade = view.seen(limb.color, pose.z, sunlit, (0.3 * side, 0.4, -0.6))
        shapes = [hull_of_balls(view, np.array(balls, float), pose) for balls in limb.hulls]
        shapes = [shape for shape in shapes if np.ptp(shape, axis=0).max() > 0.8]
        if not shapes:
            continue
        canvas.fill(shapes, shade, owner, tilt=(0.5 * side, -0.15))


def hull_of_balls(view: View, balls: Float[np.ndarray, "n 4"], pose: Pose) -> Polygon:
    """Returns the outline of the hull of some balls, as pixels."""
    world = pose.world(balls[:, :3])
    centres = view.project_plan(world)
    radii = balls[:, 3] * view.focal / world[:, 2].clip(0.5)
    circle = CIRCLE if radii.max() > 5 else CIRCLE[::2]
    return convex_hull((centres[:, None] + circle * radii[:, None, None]).reshape(-1, 2))


def walker(rng: Random) -> list[Limb]:
    """Returns someone standing or walking."""
    height = rng.uniform(1.55, 1.92) if rng.chance(0.9) else rng.uniform(1.0, 1.4)
    stride = rng.uniform(0.0, 0.34) if rng.chance(0.8) else 0.03
    broad = rng.uniform(0.92, 1.15)
    top, trousers = rng.color(*CLOTHES), rng.color(*TROUSERS)
    skin, hair = rng.color(*SKINS), rng.color(*HAIRS, spread=0.03)
    shoes = rng.color((0.1, 0.1, 0.1), (0.8, 0.8, 0.8), (0.35, 0.22, 0.15))
    legs = skin if rng.chance(0.15) else trousers
    limbs = []
    for side, step in ((-1, stride), (1, -stride)):
        hip, knee = (side * 0.09, 0.92, 0.0), (side * 0.10, 0.49, step * 0.5 + 0.06)
        foot, toe = (side * 0.10, 0.08, step), (side * 0.10, 0.05, step + 0.15)
        thigh = [(*hip, 0.095 * broad), (*knee, 0.068)]
        limbs.append(limb(legs, thigh, [(*knee, 0.066), (*foot, 0.05)]))
        limbs.append(limb(shoes, [(*foot, 0.055), (*toe, 0.045)]))
    shoulder = 0.175 * broad
    low = rng.uniform(0.5, 0.8) if rng.chance(0.4) else 0.92  # the lower end of coat or jacket
    hem = 0.17 if rng.chance(0.2) else 0.10
    torso = [(side * shoulder, 1.40, 0.0, 0.075) for side in (-1, 1)]
    torso += [(side * hem * broad, low, 0.0, 0.10) for side in (-1, 1)]
    limbs.append(limb(top, [*torso, (0, 1.46, 0, 0.07)]))
    busy, bare_arms = rng.chance(0.3), rng.chance(0.25)
    for side, swing in ((-1, -stride * 0.8), (1, stride * 0.8)):
        start = (side * (shoulder + 0.045), 1.38, 0.0)
        elbow = (side * (shoulder + 0.07), 1.10, swing * 0.3)
        hand = (side * (shoulder + 0.05), 0.86, swing + 0.08)
        if busy:  # with a phone
            hand = (side * 0.12, 1.12, 0.28)
        limbs.append(limb(top * 0.93, [(*start, 0.055), (*elbow, 0.047)]))
        forearm = [(*elbow, 0.042), (*hand, 0.038)]
        limbs.append(limb(skin if bare_arms else top * 0.93, forearm))
        limbs.append(limb(skin, [(*hand, 0.045)]))
    if rng.chance(0.18):
        backpack = [(x, y, -0.17, 0.1) for x in (-0.08, 0.08) for y in (1.05, 1.32)]
        limbs.append(limb(rng.color(*CLOTHES), backpack))
    elif rng.chance(0.2):
        bag = [(0.27, y, z, 0.06) for y in (0.5, 0.72) for z in (-0.12, 0.16)]
        limbs.append(limb(rng.color(*CLOTHES), bag))
    limbs += head(rng, (0.0, 1.62, 0.02), skin, hair)
    scale = height / 1.75
    return [
        Limb(
            part.color,
            [
                [(scale * x, scale * y, scale * z, scale * r) for x, y, z, r in h]
                for h in part.hulls
            ],
        )
        for part in limbs
    ]


def head(rng: Random, at: tuple[Number, Number, Number], skin: Color, hair: Color) -> list[Limb]:
    """Returns neck, face and hair."""
    x, y, z = at
    long = 0.14 if rng.chance(0.35) else 0.0
    return [
        limb(skin * 0.85, [(x, y - 0.14, z - 0.02, 0.05), (x, y, z, 0.05)]),
        limb(skin, [(x, y, z + 0.02, 0.088), (x, y - 0.06, z + 0.03, 0.065)]),
        limb(hair, [(x, y + 0.055, z - 0.025, 0.096), (x, y - 0.02 - long, z - 0.05, 0.085)]),
    ]


def cyclist(rng: Random, *, motorised: bool) -> list[Limb]:
    """Returns someone on a bicycle or motorcycle, feet on the pedals or rests."""
    top, trousers = rng.color(*CLOTHES), rng.color(*TROUSERS)
    skin, hair = rng.color(*SKINS), rng.color(*HAIRS, spread=0.03)
    black = np.array([0.1, 0.1, 0.1])
    phase = rng.uniform(0, 2 * math.pi)
    saddle_y, saddle_z = (0.86, -0.28) if motorised else (0.98, -0.22)
    lean = 0.15 if motorised else rng.uniform(0.12, 0.38)
    bulk = 1.2 if motorised else 1.0
    limbs = []
    for side, turn in ((-1, phase), (1, phase + math.pi)):
        hip = (side * 0.10, saddle_y + 0.02, saddle_z)
        if motorised:
            foot, knee = (side * 0.24, 0.34, 0.02), (side * 0.25, 0.72, 0.22)
        else:
            foot = (side * 0.12, 0.30 + 0.17 * math.cos(turn), 0.02 + 0.17 * math.sin(turn))
            knee = (side * 0.13, (hip[1] + foot[1]) / 2 + 0.10, (hip[2] + foot[2]) / 2 + 0.25)
        thigh = [(*hip, 0.10 * bulk), (*knee, 0.07 * bulk)]
        limbs.append(limb(trousers, thigh, [(*knee, 0.068 * bulk), (*foot, 0.05 * bulk)]))
        toe = (foot[0], foot[1] - 0.01, foot[2] + 0.14)
        limbs.append(limb(black, [(*foot, 0.05), (*toe, 0.04)]))
    y, z = saddle_y + 0.50 - 0.25 * lean, saddle_z + 0.1 + lean  # the shoulders
    torso = [(side * 0.17 * bulk, y, z, 0.08) for side in (-1, 1)]
    torso += [(side * 0.10 * bulk, saddle_y + 0.05, saddle_z, 0.11) for side in (-1, 1)]
    limbs.append(limb(top, torso))
    for side in (-1, 1):
        start, hand = (side * 0.21 * bulk, y - 0.02, z), (side * 0.27, 1.02, 0.36)
        elbow = (side * 0.31, (start[1] + hand[1]) / 2 - 0.05, (start[2] + hand[2]) / 2)
        upper = [(*start, 0.055 * bulk), (*elbow, 0.045 * bulk)]
        limbs.append(limb(top * 0.92, upper, [(*elbow, 0.045 * bulk), (*hand, 0.04 * bulk)]))
        limbs.append(limb(black if motorised else skin, [(*hand, 0.045)]))
    face = (0.0, y + 0.24, z + 0.07)
    limbs += head(rng, face, skin, hair)
    if motorised or rng.chance(0.4):
        size, low = (0.135, 0.07) if motorised else (0.115, -0.05)
        at = face[1], face[2] - 0.02
        helmet = [(0, at[0] + 0.05, at[1], size), (0, at[0] - low, at[1], size * 0.95)]
        limbs.append(limb(rng.color(*CLOTHES, (0.9, 0.9, 0.9)), helmet))
    elif rng.chance(0.3):
        low = y - 0.3, z - 0.2 - 0.3 * lean
        backpack = [(x, *at, 0.1) for x in (-0.08, 0.08) for at in (low, (y, z - 0.2))]
        limbs.append(limb(rng.color(*CLOTHES), backpack))
    return limbs
