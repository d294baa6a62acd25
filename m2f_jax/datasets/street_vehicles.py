"""Cars of several shapes, trucks, buses, trams, trailers and caravans."""

import numpy as np

from m2f_jax.datasets.street_canvas import Colour
from m2f_jax.datasets.street_dice import Dice
from m2f_jax.datasets.street_solids import GLASS, Part, Vehicle, Wheel, box, extrude

CAR, TRUCK, BUS, CARAVAN, TRAILER, TRAIN = 26, 27, 28, 29, 30, 31

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
WHITE = np.array([0.88, 0.88, 0.86])
RED_LIGHT = np.array([0.60, 0.05, 0.05])
LAMP = np.array([0.85, 0.86, 0.88])

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


def car(dice: Dice) -> Vehicle:
    """A car."""
    name = dice.weighted({"saloon": 3, "hatchback": 4, "estate": 3, "tall": 2.5, "van": 1.2,
                          "small": 1.5, "delivery van": 0.7})  # fmt: skip
    length, height, width, waist, *shares = CAR_SHAPES[name]
    stretch = dice.uniform(0.95, 1.05)
    length, height, waist = length * stretch, height * dice.uniform(0.97, 1.04), waist
    rear, roof_rear, roof_front, screen = (share * length for share in shares)
    half = width / 2
    paint = dice.colour(*PAINTS, spread=0.05)
    if name == "delivery van" and dice.chance(0.6):
        paint = dice.colour(*LIVERIES)
    tail, hood = waist if rear < -0.45 * length else waist + 0.02, waist - dice.uniform(0.08, 0.16)
    bumper = paint if dice.chance(0.75) else DARK
    back, front = -length / 2, length / 2
    lower = extrude(
        [
            (back + 0.10, 0.24, 0.84 * half),
            (back, 0.42, 0.90 * half),
            (back + 0.03, 0.66, 0.94 * half),
            (back + 0.09, tail - 0.05, 0.95 * half),
            (min(back + 0.16, rear), tail, 0.95 * half),
            (rear, waist, 0.99 * half),
            (screen, waist, 0.98 * half),
            (front - 0.45, hood + 0.03, 0.94 * half),
            (front - 0.16, hood - 0.05, 0.88 * half),
            (front - 0.03, 0.60, 0.88 * half),
            (front, 0.42, 0.86 * half),
            (front - 0.10, 0.22, 0.80 * half),
        ],
        [bumper, bumper, *[paint] * 7, bumper, DARK],
    )
    tail_light = dice.uniform(0.14, 0.24)
    low = 0.0 if dice.chance(0.6) else -0.6
    boxes = [(a, a + tail_light, 0.1 + low, 0.95) for a in (0.01, 0.99 - tail_light)]
    braking = dice.chance(0.3)
    lower.strips[2].add(
        np.array([0.95, 0.12, 0.08]) if braking else RED_LIGHT,
        *boxes,
        kind="glow" if braking else "paint",
    )
    lower.strips[2].add(WHITE * 0.9, (0.38, 0.62, 0.1, 0.55))
    lower.strips[1].add(paint * 0.6, (0.0, 1.0, 0.88, 1.0))
    lower.strips[0].add(BLACK, (0.08, 0.92, 0.0, 0.45))
    size = dice.uniform(0.18, 0.26)
    boxes = [(a, a + size, 0.05, 0.75) for a in (0.02, 0.98 - size)]
    lit = dice.chance(0.25)
    lower.strips[8].add(np.ones(3) if lit else LAMP, *boxes, kind="glow" if lit else "paint")
    lower.strips[8].add(BLACK, (0.3, 0.7, 0.25, 0.95))
    lower.strips[9].add(WHITE * 0.9, (0.38, 0.62, 0.2, 0.8))
    lower.strips[9].add(BLACK, (0.1, 0.3, 0.35, 0.9), (0.7, 0.9, 0.35, 0.9))

    wheel_radius = 0.31 if name != "tall" else 0.36
    axles = (back + 0.19 * length, front - 0.19 * length)
    arches = [
        [(axle + 1.17 * wheel_radius * np.cos(t), wheel_radius + 1.17 * wheel_radius * np.sin(t))
         for t in np.linspace(-0.3, np.pi + 0.3, 12)] for axle in axles
    ]  # fmt: skip
    side = dict(width=0.955 * half)
    lower.add_sides(BLACK, *arches, **side)
    lower.add_sides(DARK, [(back + 0.2, 0.24), (back + 0.2, 0.34), (front - 0.2, 0.34),
                           (front - 0.2, 0.24)], **side)  # fmt: skip
    pillar = (roof_rear + roof_front) / 2 + 0.12
    seams = [screen - 0.12, pillar, max(axles[0] + 0.25, rear + 0.3)]
    lower.add_sides(paint * 0.45, *[[(z, 0.36), (z, waist), (z + 0.025, waist), (z + 0.025, 0.36)]
                                    for z in seams], **side)  # fmt: skip
    lower.add_sides(paint * 0.5, *[[(z + 0.05, waist - 0.16), (z + 0.05, waist - 0.12),
                                    (z + 0.2, waist - 0.12), (z + 0.2, waist - 0.16)]
                                   for z in seams[1:]], **side)  # fmt: skip
    lower.add_sides(paint * 1.15, [(back + 0.2, waist - 0.24), (back + 0.2, waist - 0.2),
                                   (front - 0.4, waist - 0.24), (front - 0.4, waist - 0.28)],
                    **side)  # fmt: skip

    top = 0.78 * half if height < 1.9 else 0.88 * half
    roof = paint if dice.chance(0.92) else BLACK
    upper = extrude(
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
    upper.strips[0].add(GLASS, (0.09, 0.91, 0.12, 0.9), kind="glass")
    upper.strips[4].add(GLASS, (0.05, 0.95, 0.06, 0.97), kind="glass")
    lean = (top - 0.95 * half) / (height - waist)
    foot, head = waist + 0.03, height - 0.10

    def at(y: float) -> tuple[float, float]:
        share = (y - waist) / (height - waist)
        return rear + (roof_rear - rear) * share + 0.1, screen + (roof_front - screen) * share - 0.1

    closed = "van" in name and dice.chance(0.6)
    panes = [[(pillar + 0.04, foot), (pillar + 0.04, head), (at(head)[1], head), (at(foot)[1], foot)]]
    if not closed:
        panes.append([(at(foot)[0], foot), (at(head)[0], head), (pillar - 0.04, head),
                      (pillar - 0.04, foot)])  # fmt: skip
    upper.add_sides(GLASS, *panes, slope=(waist, 0.95 * half, lean), kind="glass")
    mirrors = box(width + 0.26, (waist + 0.0, waist + 0.14), (screen - 0.32, screen - 0.22), paint * 0.7)
    parts = [mirrors, lower, upper]
    rim = dice.colour((0.62, 0.63, 0.64), (0.45, 0.45, 0.46), (0.25, 0.25, 0.26))
    wheels = [Wheel(x=0.97 * half, z=z, radius=wheel_radius, rim=rim) for z in axles]
    if name == "saloon" and dice.chance(0.15):  # a taxi
        parts.append(box(0.5, (height, height + 0.16), (-0.35, -0.2), np.array([0.95, 0.85, 0.3])))
    return Vehicle(label_id=CAR, parts=parts, wheels=wheels, length=length, width=width,
                   height=height)  # fmt: skip


def windows_along(
    part: Part, z: tuple[float, float], y: tuple[float, float], pane: float, gap: float = 0.12
):
    """A row of windows on both sides."""
    count = max(round((z[1] - z[0]) / pane), 1)
    step = (z[1] - z[0]) / count
    panes = [
        [(z[0] + k * step, y[0]), (z[0] + k * step, y[1]),
         (z[0] + (k + 1) * step - gap, y[1]), (z[0] + (k + 1) * step - gap, y[0])]
        for k in range(count)
    ]  # fmt: skip
    part.add_sides(GLASS, *panes, kind="glass")


def rectangle(z0: float, z1: float, y0: float, y1: float) -> list[tuple[float, float]]:
    """Points (z, y) of a rectangle."""
    return [(z0, y0), (z0, y1), (z1, y1), (z1, y0)]


def bus(dice: Dice) -> Vehicle:
    """A city bus, rarely with two decks."""
    length, width, height = dice.uniform(10.5, 12.5), 2.52, dice.uniform(2.95, 3.2)
    two_decks = dice.chance(0.12)
    if two_decks:
        height = 4.1
    main, second = dice.colour(*LIVERIES), dice.colour(*LIVERIES)
    half, back, front = width / 2, -length / 2, length / 2
    body = extrude(
        [
            (back + 0.05, 0.32, half * 0.97),
            (back, 0.9, half),
            (back + 0.05, height - 0.25, half * 0.98),
            (back + 0.3, height, half * 0.92),
            (front - 0.5, height, half * 0.92),
            (front - 0.12, height - 0.3, half * 0.97),
            (front, 1.0, half),
            (front - 0.05, 0.32, half * 0.97),
        ],
        main,
    )
    sill = dice.uniform(1.0, 1.25)
    top = 2.55 if two_decks else height - 0.5
    body.add_sides(second, rectangle(back, front, 0.32, sill - dice.uniform(0.1, 0.5)))
    windows_along(body, (back + 0.4, front - 1.4), (sill, top), dice.uniform(1.2, 1.9))
    if two_decks:
        windows_along(body, (back + 0.4, front - 0.4), (2.85, 3.7), 1.5)
    for z in (front - 1.3, dice.uniform(-1.0, 0.5)):
        body.add_sides(GLASS, rectangle(z, z + 0.52, 0.4, top), rectangle(z + 0.58, z + 1.1, 0.4, top),
                       kind="glass")  # fmt: skip
    axles = (back + 2.9, front - 2.5)
    body.add_sides(BLACK, *[
        [(axle + 0.6 * np.cos(t), 0.5 + 0.6 * np.sin(t)) for t in np.linspace(-0.3, np.pi + 0.3, 12)]
        for axle in axles
    ])  # fmt: skip
    if dice.chance(0.5):
        advert = dice.colour(*LIVERIES)
        body.add_sides(advert, rectangle(-3.2, 1.8, 0.5, sill - 0.1))
    rear, screen = body.strips[1], body.strips[5]
    rear.add(GLASS, (0.1, 0.9, 0.5, 0.86), kind="glass")
    rear.add(RED_LIGHT, (0.02, 0.1, 0.05, 0.3), (0.9, 0.98, 0.05, 0.3))
    rear.add(DARK, (0.15, 0.85, 0.03, 0.36))
    body.strips[0].add(WHITE * 0.9, (0.4, 0.6, 0.6, 0.9))
    screen.add(BLACK, (0.03, 0.97, 0.02, 0.16))
    screen.add(GLASS, (0.03, 0.97, 0.16, 0.97), kind="glass")
    text = np.array([0.95, 0.65, 0.15])
    screen.add(text, (0.2, 0.3, 0.05, 0.12), (0.36, 0.8, 0.05, 0.12), kind="glow")
    body.strips[6].add(LAMP, (0.03, 0.18, 0.25, 0.6), (0.82, 0.97, 0.25, 0.6))
    body.strips[6].add(WHITE * 0.9, (0.4, 0.6, 0.55, 0.8))
    body.strips[6].add(DARK, (0.0, 1.0, 0.85, 1.0))
    mirrors = box(width + 0.7, (2.0, 2.45), (front - 0.1, front + 0.05), BLACK)
    wheels = [Wheel(x=half, z=z, radius=0.48, rim=np.array([0.55, 0.55, 0.55])) for z in axles]
    return Vehicle(label_id=BUS, parts=[mirrors, body], wheels=wheels, length=length, width=width,
                   height=height)  # fmt: skip


def truck(dice: Dice) -> Vehicle:
    """A truck with a box, a covered load, an open bed or a concrete mixer's drum."""
    kind = dice.weighted({"box": 4, "cover": 2, "open": 2, "tank": 1})
    length, width = dice.uniform(6.2, 9.5), dice.uniform(2.2, 2.5)
    height = dice.uniform(2.9, 3.8)
    half, back, front = width / 2, -length / 2, length / 2
    paint = dice.colour(*LIVERIES, *PAINTS[:8])
    load = dice.colour(*LIVERIES, (0.85, 0.85, 0.83), (0.85, 0.85, 0.83))
    cab_back, cab_top = front - dice.uniform(1.7, 2.2), dice.uniform(2.5, 3.0)
    cab = extrude(
        [
            (cab_back, 0.5, half * 0.95),
            (cab_back, cab_top, half * 0.92),
            (front - 0.55, cab_top, half * 0.90),
            (front - 0.12, 1.45, half * 0.96),
            (front, 1.2, half * 0.97),
            (front, 0.4, half * 0.95),
        ],
        paint,
    )
    cab.strips[2].add(GLASS, (0.05, 0.95, 0.15, 0.98), kind="glass")
    cab.strips[4].add(DARK, (0.2, 0.8, 0.1, 0.5), (0.0, 1.0, 0.8, 1.0))
    cab.strips[4].add(LAMP, (0.03, 0.17, 0.5, 0.75), (0.83, 0.97, 0.5, 0.75))
    cab.strips[4].add(WHITE * 0.9, (0.4, 0.6, 0.62, 0.75))
    cab.add_sides(GLASS, [(cab_back + 0.5, 1.5), (cab_back + 0.5, 2.2), (front - 0.5, 2.2),
                          (front - 0.25, 1.5)], width=half * 0.95, kind="glass")  # fmt: skip
    cab.add_sides(paint * 0.5, rectangle(cab_back + 0.42, cab_back + 0.45, 0.8, 2.3),
                  width=half * 0.96)  # fmt: skip
    frame = box(width * 0.8, (0.55, 0.95), (back, front - 0.3), DARK)
    frame.strips[0].add(RED_LIGHT, (0.02, 0.16, 0.2, 0.7), (0.84, 0.98, 0.2, 0.7))
    frame.strips[0].add(WHITE * 0.9, (0.42, 0.58, 0.2, 0.6))
    bed = (back, cab_back - 0.15)
    if kind == "open":
        bed_box = box(width, (0.95, 1.5), bed, load * 0.8)
        stuff = dice.colour((0.45, 0.38, 0.28), (0.5, 0.5, 0.48), (0.35, 0.25, 0.18))
        heap = extrude([(bed[0] + 0.3, 1.4, half * 0.8), (bed[0] + 1, 2.0, half * 0.5),
                        (bed[1] - 1, 1.9, half * 0.5), (bed[1] - 0.2, 1.4, half * 0.8)], stuff)
        parts = [frame, heap, bed_box, cab]
    elif kind == "tank":
        rings = [half * 0.35, half * 0.8, half * 0.97, half * 0.8, half * 0.35]
        levels = [1.0, 1.25, 1.85, 2.5, 2.75]
        tank = extrude([(bed[0], 1.0, rings[0]), (bed[0], 1.85, rings[2]), (bed[0], 2.75, rings[4]),
                        (bed[1], 2.75, rings[4]), (bed[1], 1.85, rings[2]), (bed[1], 1.0, rings[0])],
                       load)  # fmt: skip
        tank.add_sides(load * 1.2, rectangle(bed[0] + 0.1, bed[1] - 0.1, levels[2], levels[3]),
                       width=half * 0.9)  # fmt: skip
        parts = [frame, tank, cab]
        height = max(cab_top, 2.75)
    else:
        body = box(width, (0.95, height), bed, load)
        sign = dice.colour(*LIVERIES)
        centre = (bed[0] + bed[1]) / 2
        span = (bed[1] - bed[0]) * dice.uniform(0.2, 0.42)
        body.add_sides(sign, rectangle(centre - span, centre + span, 1.6, height - 0.6))
        body.add_sides(load * 0.7, rectangle(bed[0], bed[1], 0.95, 1.05),
                       rectangle(bed[0], bed[1], height - 0.08, height))  # fmt: skip
        if kind == "cover":
            body.add_sides(load * 0.75, *[rectangle(z, z + 0.08, 1.05, height - 0.1)
                                          for z in np.arange(bed[0] + 0.6, bed[1], 0.9)])  # fmt: skip
        rear = body.strips[0]
        rear.add(load * 0.55, (0.49, 0.51, 0.02, 0.98), (0.0, 0.03, 0, 1), (0.97, 1, 0, 1))
        rear.add(load * 0.55, (0, 1, 0.0, 0.03), (0, 1, 0.97, 1))
        if dice.chance(0.5):
            rear.add(sign, (0.15, 0.85, 0.45, 0.75))
        body.strips[2].add(load * 0.8, (0.05, 0.95, 0.05, 0.4))
        parts = [frame, body, cab]
    axles = [front - 1.1, back + 1.6] + ([back + 2.7] if length > 8 else [])
    rim = dice.colour((0.5, 0.5, 0.5), (0.6, 0.2, 0.15))
    wheels = [Wheel(x=half, z=z, radius=0.47, rim=rim) for z in axles]
    mirrors = box(width + 0.5, (1.7, 2.3), (front - 0.5, front - 0.38), BLACK)
    return Vehicle(label_id=TRUCK, parts=[*parts, mirrors], wheels=wheels, length=length,
                   width=width, height=max(height, cab_top))  # fmt: skip


def tram(dice: Dice) -> Vehicle:
    """A tram of several joined cars; Cityscapes calls it a train."""
    cars, long = dice.whole(2, 4), dice.uniform(6.5, 9.0)
    width, height = 2.4, dice.uniform(3.2, 3.5)
    half = width / 2
    main, second = dice.colour(*LIVERIES), dice.colour(*LIVERIES)
    length = cars * long
    parts = []
    for k in range(cars):
        back, front = -length / 2 + k * long, -length / 2 + (k + 1) * long
        first, last = k == cars - 1, k == 0
        ahead, behind = (1.0 if first else 0.25), (1.0 if last else 0.25)
        body = extrude(
            [
                (back + 0.1 * behind, 0.3, half * (0.85 if last else 0.97)),
                (back, 1.0, half * (0.85 if last else 1)),
                (back + 0.7 * behind, height - 0.2, half * 0.95),
                (back + 0.9 * behind, height, half * 0.88),
                (front - 0.9 * ahead, height, half * 0.88),
                (front - 0.7 * ahead, height - 0.2, half * 0.95),
                (front, 1.0, half * (0.85 if first else 1)),
                (front - 0.1 * ahead, 0.3, half * (0.85 if first else 0.97)),
            ],
            main,
        )
        body.add_sides(second, rectangle(back + 0.2, front - 0.2, 0.3, 0.95))
        body.add_sides(second * 0.8, rectangle(back + 0.6 * behind, front - 0.6 * ahead,
                                               height - 0.35, height - 0.15))  # fmt: skip
        windows_along(body, (back + 0.9 * behind, front - 0.9 * ahead), (1.15, height - 0.6), 1.5)
        body.add_sides(second * 0.6, rectangle((back + front) / 2 - 0.7, (back + front) / 2 + 0.7,
                                               0.35, 1.1))  # fmt: skip
        body.add_sides(GLASS, *[rectangle((back + front) / 2 + dz, (back + front) / 2 + dz + 0.6,
                                          0.5, height - 0.6) for dz in (-0.65, 0.05)],
                       kind="glass")  # fmt: skip
        body.add_sides(BLACK, rectangle(back + 1.2, front - 1.2, 0.3, 0.42))
        ends = [(body.strips[1], body.strips[0], RED_LIGHT)] if last else []
        ends += [(body.strips[5], body.strips[6], LAMP)] if first else []
        for screen, bumper, lights in ends:
            flip = screen is body.strips[5]
            screen.add(GLASS, (0.06, 0.94, *((0.12, 0.8) if flip else (0.2, 0.88))), kind="glass")
            text = np.array([0.95, 0.65, 0.15])
            screen.add(text, (0.3, 0.7, *((0.03, 0.09) if flip else (0.91, 0.97))), kind="glow")
            bumper.add(lights, (0.06, 0.2, 0.3, 0.6), (0.8, 0.94, 0.3, 0.6))
            bumper.add(DARK, (0.3, 0.7, *((0.6, 0.95) if flip else (0.05, 0.4))))
        parts.append(body)
        if not first:
            parts.append(box(width * 0.86, (0.5, height - 0.15), (front - 0.2, front + 0.2), DARK))
    middle = 0.0 if cars % 2 else -long / 2
    arm = extrude([(middle - 0.8, height, 0.5), (middle + 0.3, height + 0.8, 0.05),
                   (middle - 0.4, height + 1.4, 0.7), (middle - 0.2, height + 1.4, 0.7)], DARK)
    return Vehicle(label_id=TRAIN, parts=[arm, *parts], wheels=[], length=length, width=width,
                   height=height)  # fmt: skip


def towed(dice: Dice) -> Vehicle:
    """A trailer or a caravan."""
    paint: Colour = dice.colour((0.86, 0.86, 0.83), (0.45, 0.45, 0.45), (0.3, 0.35, 0.3))
    if dice.chance(0.4):
        body = extrude([(-2.2, 0.5, 1.05), (-2.3, 1.3, 1.1), (-2.1, 2.5, 1.05), (2.0, 2.5, 1.05),
                        (2.3, 1.3, 1.1), (2.0, 0.5, 1.05)], WHITE * 0.95)  # fmt: skip
        body.strips[1].add(GLASS, (0.15, 0.85, 0.25, 0.75), kind="glass")
        body.strips[0].add(RED_LIGHT, (0.02, 0.15, 0.3, 0.8), (0.85, 0.98, 0.3, 0.8))
        windows_along(body, (-1.5, 1.5), (1.3, 2.0), 1.4, gap=0.5)
        body.add_sides(dice.colour(*LIVERIES), rectangle(-2.1, 2.1, 0.95, 1.08))
        label, size = CARAVAN, (4.6, 2.2, 2.5)
    else:
        high = dice.choose((1.1, 1.9))
        body = box(1.7, (0.5, high), (-1.4, 1.4), paint)
        body.strips[0].add(RED_LIGHT, (0.02, 0.14, 0.08, 0.25), (0.86, 0.98, 0.08, 0.25))
        body.strips[0].add(WHITE * 0.9, (0.4, 0.6, 0.05, 0.2))
        label, size = TRAILER, (2.8, 1.7, high)
    bar = box(0.12, (0.45, 0.55), (size[0] / 2, size[0] / 2 + 1.0), DARK)
    wheels = [Wheel(x=size[1] / 2, z=-0.1, radius=0.3, rim=np.array([0.5, 0.5, 0.5]))]
    return Vehicle(label_id=label, parts=[bar, body], wheels=wheels, length=size[0], width=size[1],
                   height=size[2])  # fmt: skip
