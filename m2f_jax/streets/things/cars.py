"""Cars of several shapes."""

from dataclasses import dataclass

import numpy as np

from m2f_jax.streets.drawing.canvas import Color
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.things.vehicles import (
    BLACK,
    DARK,
    GLASS,
    LAMP,
    LIVERIES,
    PAINTS,
    TAIL_LIGHT,
    WHITE,
    Part,
    Vehicle,
    Wheel,
    arch,
    box,
    extrude,
    mirrors,
    rectangle,
)

CAR = 26

# Length, height, width, waist; then z, as shares of the length, of the lower end of the rear
# window, the rear and front ends of the roof, and the lower end of the windscreen.
CAR_SHAPES = {
    "saloon": (4.65, 1.45, 1.80, 0.94, -0.36, -0.17, 0.07, 0.23),
    "hatchback": (4.15, 1.49, 1.77, 0.95, -0.465, -0.36, 0.06, 0.25),
    "estate": (4.75, 1.49, 1.82, 0.95, -0.48, -0.42, 0.07, 0.24),
    "tall": (4.60, 1.72, 1.88, 1.08, -0.485, -0.40, 0.07, 0.24),
    "van": (4.95, 1.95, 1.92, 1.12, -0.497, -0.475, 0.22, 0.39),
    "small": (3.45, 1.50, 1.63, 0.93, -0.485, -0.40, 0.11, 0.32),
    "delivery van": (5.6, 2.5, 2.0, 1.25, -0.499, -0.49, 0.27, 0.40),
}


@dataclass(frozen=True, kw_only=True)
class CarShape:
    """The side view of a car, in metres; z runs from the rear, -length/2, to the front."""

    length: Number
    height: Number
    half: Number
    """Half the width."""
    waist: Number
    """The height of the lower edge of the windows."""
    rear: Number
    """The z of the lower end of the rear window."""
    roof: tuple[Number, Number]
    """The z of the roof's ends."""
    screen: Number
    """The z of the lower end of the windscreen."""

    @property
    def pillar(self) -> float:
        """The z between front and rear doors."""
        return sum(self.roof) / 2 + 0.12


def car(rng: Random) -> Vehicle:
    """Returns a car."""
    name = rng.weighted(
        {
            "saloon": 3,
            "hatchback": 4,
            "estate": 3,
            "tall": 2.5,
            "van": 1.2,
            "small": 1.5,
            "delivery van": 0.7,
        }
    )
    length, height, width, waist, *shares = CAR_SHAPES[name]
    length, height = length * rng.uniform(0.95, 1.05), height * rng.uniform(0.97, 1.04)
    shape = CarShape(
        length=length,
        height=height,
        half=width / 2,
        waist=waist,
        rear=shares[0] * length,
        roof=(shares[1] * length, shares[2] * length),
        screen=shares[3] * length,
    )
    paint = rng.color(*PAINTS, spread=0.05)
    if name == "delivery van" and rng.chance(0.6):
        paint = rng.color(*LIVERIES)
    radius = 0.36 if name == "tall" else 0.31
    axles = -0.31 * length, 0.31 * length
    lower = lower_body(rng, shape, paint, axles, radius)
    closed = "van" in name and rng.chance(0.6)
    upper = cabin(rng, shape, paint, closed=closed)
    ears = (shape.screen - 0.36, shape.screen - 0.24)
    parts = [*mirrors(width, (waist, waist + 0.14), ears, paint * 0.7), lower, upper]
    if name == "saloon" and rng.chance(0.15):  # a taxi
        parts.append(box(0.5, (height, height + 0.16), (-0.35, -0.2), np.array([0.95, 0.85, 0.3])))
    rim = rng.color((0.62, 0.63, 0.64), (0.45, 0.45, 0.46), (0.25, 0.25, 0.26))
    return Vehicle(
        label_id=CAR,
        parts=parts,
        wheels=[Wheel(x=0.97 * shape.half, z=z, radius=radius, rim=rim) for z in axles],
        length=length,
        width=width,
        height=height,
    )


def lower_body(
    rng: Random, shape: CarShape, paint: Color, axles: tuple[Number, Number], radius: Number
) -> Part:
    """Returns everything below the windows, with lights, plates, bumpers and doors."""
    half, waist, rear, screen = shape.half, shape.waist, shape.rear, shape.screen
    back, front = -shape.length / 2, shape.length / 2
    tail = waist if rear < -0.45 * shape.length else waist + 0.02
    bonnet = waist - rng.uniform(0.08, 0.16)
    bumper = paint if rng.chance(0.75) else DARK
    body = extrude(
        [
            (back + 0.10, 0.24, 0.84 * half),
            (back, 0.42, 0.90 * half),
            (back + 0.03, 0.66, 0.94 * half),
            (back + 0.09, tail - 0.05, 0.95 * half),
            (min(back + 0.16, rear), tail, 0.95 * half),
            (rear, waist, 0.99 * half),
            (screen, waist, 0.98 * half),
            (front - 0.45, bonnet + 0.03, 0.94 * half),
            (front - 0.16, bonnet - 0.05, 0.88 * half),
            (front - 0.03, 0.60, 0.88 * half),
            (front, 0.42, 0.86 * half),
            (front - 0.10, 0.22, 0.80 * half),
        ],
        [bumper, bumper, *[paint] * 7, bumper, DARK],
    )
    valance, rear_bumper, boot = body.strips[:3]
    nose, front_bumper = body.strips[8:10]
    wide, low = rng.uniform(0.14, 0.24), 0.1 if rng.chance(0.6) else -0.5
    lights = [(a, a + wide, low, 0.95) for a in (0.01, 0.99 - wide)]
    if rng.chance(0.3):  # braking
        boot.add(np.array([0.95, 0.12, 0.08]), *lights, kind="glow")
    else:
        boot.add(TAIL_LIGHT, *lights)
    boot.add(WHITE, (0.38, 0.62, 0.1, 0.55))
    rear_bumper.add(paint * 0.6, (0.0, 1.0, 0.88, 1.0))
    valance.add(BLACK, (0.08, 0.92, 0.0, 0.45))
    wide = rng.uniform(0.18, 0.26)
    lights = [(a, a + wide, 0.05, 0.75) for a in (0.02, 0.98 - wide)]
    if rng.chance(0.25):
        nose.add(np.ones(3), *lights, kind="glow")
    else:
        nose.add(LAMP, *lights)
    nose.add(BLACK, (0.3, 0.7, 0.25, 0.95))
    front_bumper.add(WHITE, (0.38, 0.62, 0.2, 0.8))
    front_bumper.add(BLACK, (0.1, 0.3, 0.35, 0.9), (0.7, 0.9, 0.35, 0.9))

    width = 0.955 * half
    body.add_sides(BLACK, *(arch(z, radius, 1.17 * radius) for z in axles), width=width)
    body.add_sides(DARK, rectangle(axles[0], axles[1], 0.24, 0.34), width=width)
    doors = [screen - 0.12, shape.pillar, max(axles[0] + 0.25, rear + 0.3)]
    seams = [rectangle(z, z + 0.025, 0.36, waist) for z in doors]
    body.add_sides(paint * 0.45, *seams, width=width)
    handles = [rectangle(z + 0.05, z + 0.2, waist - 0.16, waist - 0.12) for z in doors[1:]]
    body.add_sides(paint * 0.5, *handles, width=width)
    crease = [(back + 0.2, waist - 0.24), (back + 0.2, waist - 0.2)]
    crease += [(front - 0.4, waist - 0.24), (front - 0.4, waist - 0.28)]
    body.add_sides(paint * 1.15, crease, width=width)
    return body


def cabin(rng: Random, shape: CarShape, paint: Color, *, closed: bool) -> Part:
    """Returns windows and roof; a closed one has no windows behind the front doors."""
    half, waist, height = shape.half, shape.waist, shape.height
    rear, (roof_rear, roof_front), screen = shape.rear, shape.roof, shape.screen
    top = (0.78 if height < 1.9 else 0.88) * half
    roof = paint if rng.chance(0.92) else BLACK
    body = extrude(
        [
            (rear, waist, 0.95 * half),
            (roof_rear, height - 0.03, top),
            (roof_rear + 0.15, height, top * 0.97),
            (roof_front - 0.2, height, top * 0.97),
            (roof_front, height - 0.03, top),
            (screen, waist, 0.92 * half),
        ],
        [paint, roof, roof, roof, paint],
    )
    body.strips[0].add(GLASS, (0.09, 0.91, 0.12, 0.9), kind="glass")
    body.strips[4].add(GLASS, (0.05, 0.95, 0.06, 0.97), kind="glass")

    def ends(y: Number) -> tuple[Number, Number]:
        share = (y - waist) / (height - waist)
        return rear + (roof_rear - rear) * share + 0.1, screen + (roof_front - screen) * share - 0.1

    foot, head, pillar = waist + 0.03, height - 0.10, shape.pillar
    panes = [
        [(pillar + 0.04, foot), (pillar + 0.04, head), (ends(head)[1], head), (ends(foot)[1], foot)]
    ]
    if not closed:
        behind = [(ends(foot)[0], foot), (ends(head)[0], head)]
        panes.append([*behind, (pillar - 0.04, head), (pillar - 0.04, foot)])
    lean = (top - 0.95 * half) / (height - waist)
    body.add_sides(GLASS, *panes, width=0.95 * half - lean * waist, lean=lean, kind="glass")
    return body
