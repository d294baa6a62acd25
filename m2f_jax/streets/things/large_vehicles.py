"""Trucks, trailers, caravans, buses and trams."""

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
    Face,
    Part,
    Vehicle,
    Wheel,
    arch,
    box,
    extrude,
    mirrors,
    rectangle,
    windows_along,
)

TRUCK, CARAVAN, TRAILER = 27, 29, 30


def truck(rng: Random) -> Vehicle:
    """Returns a truck with a box, a covered load, an open bed or a tank."""
    length, width = rng.uniform(6.2, 9.5), rng.uniform(2.2, 2.5)
    half, back, front = width / 2, -length / 2, length / 2
    cab_back, cab_top = front - rng.uniform(1.7, 2.2), rng.uniform(2.5, 3.0)
    cab = truck_cab(rng.color(*LIVERIES, *PAINTS[:8]), (cab_back, front), half, cab_top)
    frame = box(width * 0.8, (0.55, 0.95), (back, front - 0.3), DARK)
    frame.strips[0].add(TAIL_LIGHT, (0.02, 0.16, 0.2, 0.7), (0.84, 0.98, 0.2, 0.7))
    frame.strips[0].add(WHITE, (0.42, 0.58, 0.2, 0.6))
    height = rng.uniform(2.9, 3.8)
    load = truck_load(rng, (back, cab_back - 0.15), width, height)
    axles = [front - 1.1, back + 1.6, *([back + 2.7] if length > 8 else [])]
    rim = rng.color((0.5, 0.5, 0.5), (0.6, 0.2, 0.15))
    ears = mirrors(width + 0.05, (1.7, 2.3), (front - 0.5, front - 0.38), BLACK)
    return Vehicle(
        label_id=TRUCK,
        parts=[frame, *load, cab, *ears],
        wheels=[Wheel(x=half, z=z, radius=0.47, rim=rim) for z in axles],
        length=length,
        width=width,
        height=max(cab_top, *(float(part.right.points[:, 1].max()) for part in load)),
    )


def truck_cab(paint: Color, z: tuple[Number, Number], half: Number, top: Number) -> Part:
    """Returns the driver's cab."""
    back, front = z
    cab = extrude(
        [
            (back, 0.5, half * 0.95),
            (back, top, half * 0.92),
            (front - 0.55, top, half * 0.90),
            (front - 0.12, 1.45, half * 0.96),
            (front, 1.2, half * 0.97),
            (front, 0.4, half * 0.95),
        ],
        paint,
    )
    cab.strips[2].add(GLASS, (0.05, 0.95, 0.15, 0.98), kind="glass")
    cab.strips[4].add(DARK, (0.2, 0.8, 0.1, 0.5), (0.0, 1.0, 0.8, 1.0))
    cab.strips[4].add(LAMP, (0.03, 0.17, 0.5, 0.75), (0.83, 0.97, 0.5, 0.75))
    cab.strips[4].add(WHITE, (0.4, 0.6, 0.62, 0.75))
    pane = [(back + 0.5, 1.5), (back + 0.5, 2.2), (front - 0.5, 2.2), (front - 0.25, 1.5)]
    cab.add_sides(GLASS, pane, width=half * 0.95, kind="glass")
    cab.add_sides(paint * 0.5, rectangle(back + 0.42, back + 0.45, 0.8, 2.3), width=half * 0.96)
    return cab


def truck_load(rng: Random, z: tuple[Number, Number], width: Number, height: Number) -> list[Part]:
    """Returns the load of a truck; `z` is from where to where it reaches."""
    back, front = z
    half = width / 2
    kind = rng.weighted({"box": 4, "cover": 2, "open": 2, "tank": 1})
    color = rng.color(*LIVERIES, (0.85, 0.85, 0.83), (0.85, 0.85, 0.83))
    if kind == "open":
        earth = rng.color((0.45, 0.38, 0.28), (0.5, 0.5, 0.48), (0.35, 0.25, 0.18))
        heap = [(back + 0.3, 1.4, half * 0.8), (back + 1, 2.0, half * 0.5)]
        heap += [(front - 1, 1.9, half * 0.5), (front - 0.2, 1.4, half * 0.8)]
        return [extrude(heap, earth), box(width, (0.95, 1.5), z, color * 0.8)]
    if kind == "tank":
        rounds = [(1.0, 0.35 * half), (1.4, 0.85 * half), (1.9, 0.97 * half)]
        rounds += [(2.4, 0.85 * half), (2.75, 0.35 * half)]
        outline = [(back, *at) for at in rounds] + [(front, *at) for at in rounds[::-1]]
        tank = extrude(outline, color)
        tank.add_sides(color * 1.2, rectangle(back, front, 1.9, 2.4), width=half * 0.9)
        return [tank]
    body = box(width, (0.95, height), z, color)
    sign = rng.color(*LIVERIES)
    centre, reach = (back + front) / 2, (front - back) * rng.uniform(0.2, 0.42)
    body.add_sides(sign, rectangle(centre - reach, centre + reach, 1.6, height - 0.6))
    edges = rectangle(back, front, 0.95, 1.05), rectangle(back, front, height - 0.08, height)
    body.add_sides(color * 0.7, *edges)
    if kind == "cover":
        folds = np.arange(back + 0.6, front, 0.9).tolist()
        body.add_sides(color * 0.75, *(rectangle(z, z + 0.08, 1.05, height) for z in folds))
    rear, _, front_wall = body.strips
    rear.add(color * 0.55, (0.49, 0.51, 0.02, 0.98), (0.0, 0.03, 0, 1), (0.97, 1, 0, 1))
    rear.add(color * 0.55, (0, 1, 0.0, 0.03), (0, 1, 0.97, 1))
    if rng.chance(0.5):
        rear.add(sign, (0.15, 0.85, 0.45, 0.75))
    front_wall.add(color * 0.8, (0.05, 0.95, 0.05, 0.4))
    return [body]


def towed(rng: Random) -> Vehicle:
    """Returns a trailer or a caravan."""
    if rng.chance(0.4):
        label_id, length, width, height = CARAVAN, 4.6, 2.2, 2.5
        rear = [(-2.2, 0.5, 1.05), (-2.3, 1.3, 1.1), (-2.1, 2.5, 1.05)]
        body = extrude([*rear, *[(-z, y, half) for z, y, half in rear[::-1]]], WHITE)
        body.strips[1].add(GLASS, (0.15, 0.85, 0.25, 0.75), kind="glass")
        body.strips[0].add(TAIL_LIGHT, (0.02, 0.15, 0.3, 0.8), (0.85, 0.98, 0.3, 0.8))
        windows_along(body, (-1.5, 1.5), (1.3, 2.0), 1.4, gap=0.5)
        body.add_sides(rng.color(*LIVERIES), rectangle(-2.1, 2.1, 0.95, 1.08))
    else:
        label_id, length, width, height = TRAILER, 2.8, 1.7, rng.choose((1.1, 1.9))
        paint = rng.color((0.86, 0.86, 0.83), (0.45, 0.45, 0.45), (0.3, 0.35, 0.3))
        body = box(width, (0.5, height), (-1.4, 1.4), paint)
        body.strips[0].add(TAIL_LIGHT, (0.02, 0.14, 0.08, 0.25), (0.86, 0.98, 0.08, 0.25))
        body.strips[0].add(WHITE, (0.4, 0.6, 0.05, 0.2))
    bar = box(0.12, (0.45, 0.55), (length / 2, length / 2 + 1.0), DARK)
    return Vehicle(
        label_id=label_id,
        parts=[bar, body],
        wheels=[Wheel(x=width / 2, z=-0.1, radius=0.3, rim=np.full(3, 0.5))],
        length=length,
        width=width,
        height=height,
    )


BUS, TRAIN = 28, 31
LETTERS = np.array([0.95, 0.65, 0.15])


def bus(rng: Random) -> Vehicle:
    """Returns a city bus, rarely with two decks."""
    length, width = rng.uniform(10.5, 12.5), 2.52
    two_decks = rng.chance(0.12)
    height = 4.1 if two_decks else rng.uniform(2.95, 3.2)
    half, back, front = width / 2, -length / 2, length / 2
    main, second = rng.color(*LIVERIES), rng.color(*LIVERIES)
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
    sill, top = rng.uniform(1.0, 1.25), 2.55 if two_decks else height - 0.5
    body.add_sides(second, rectangle(back, front, 0.32, sill - rng.uniform(0.1, 0.5)))
    windows_along(body, (back + 0.4, front - 1.4), (sill, top), rng.uniform(1.2, 1.9))
    if two_decks:
        windows_along(body, (back + 0.4, front - 0.4), (2.85, 3.7), 1.5)
    for z in (front - 1.3, rng.uniform(-1.0, 0.5)):
        doors = rectangle(z, z + 0.52, 0.4, top), rectangle(z + 0.58, z + 1.1, 0.4, top)
        body.add_sides(GLASS, *doors, kind="glass")
    axles = back + 2.9, front - 2.5
    body.add_sides(BLACK, *(arch(z, 0.5, 0.6) for z in axles))
    if rng.chance(0.5):  # an advertisement
        body.add_sides(rng.color(*LIVERIES), rectangle(-3.2, 1.8, 0.5, sill - 0.1))

    lower_rear, rear = body.strips[:2]
    screen, lower_front = body.strips[5:]
    rear.add(GLASS, (0.1, 0.9, 0.5, 0.86), kind="glass")
    rear.add(TAIL_LIGHT, (0.02, 0.1, 0.05, 0.3), (0.9, 0.98, 0.05, 0.3))
    rear.add(DARK, (0.15, 0.85, 0.03, 0.36))
    lower_rear.add(WHITE, (0.4, 0.6, 0.6, 0.9))
    screen.add(BLACK, (0.03, 0.97, 0.02, 0.16))
    screen.add(GLASS, (0.03, 0.97, 0.16, 0.97), kind="glass")
    screen.add(LETTERS, (0.2, 0.3, 0.05, 0.12), (0.36, 0.8, 0.05, 0.12), kind="glow")
    lower_front.add(LAMP, (0.03, 0.18, 0.25, 0.6), (0.82, 0.97, 0.25, 0.6))
    lower_front.add(WHITE, (0.4, 0.6, 0.55, 0.8))
    lower_front.add(DARK, (0.0, 1.0, 0.85, 1.0))
    ears = mirrors(width + 0.1, (2.0, 2.45), (front - 0.1, front + 0.05), BLACK)
    return Vehicle(
        label_id=BUS,
        parts=[*ears, body],
        wheels=[Wheel(x=half, z=z, radius=0.48, rim=np.full(3, 0.55)) for z in axles],
        length=length,
        width=width,
        height=height,
    )


def tram(rng: Random) -> Vehicle:
    """Returns a tram of several joined cars; Cityscapes calls it a train."""
    cars, long = rng.whole(2, 4), rng.uniform(6.5, 9.0)
    width, height = 2.4, rng.uniform(3.2, 3.5)
    main, second = rng.color(*LIVERIES), rng.color(*LIVERIES)
    length = cars * long
    parts = []
    for k in range(cars):
        start = -length / 2 + k * long
        z = start, start + long
        first, last = k == cars - 1, k == 0
        body = tram_body(z, width / 2, height, main, rear=last, front=first)
        dress_tram(body, z, height, second, rear=last, front=first)
        if last:
            face_of_tram(body.strips[1], body.strips[0], TAIL_LIGHT, upwards=True)
        if first:
            face_of_tram(body.strips[5], body.strips[6], LAMP, upwards=False)
        else:
            joint = z[1] - 0.2, z[1] + 0.2
            parts.append(box(width * 0.86, (0.5, height - 0.15), joint, DARK))
        parts.append(body)
    z = 0.0 if cars % 2 else -long / 2
    parts += [  # the collector
        box(0.5, (height, height + 0.25), (z - 0.8, z + 0.8), DARK),
        box(0.06, (height + 0.2, height + 1.2), (z, z + 0.06), DARK),
        box(1.3, (height + 1.15, height + 1.22), (z, z + 0.1), DARK),
    ]
    return Vehicle(
        label_id=TRAIN, parts=parts, wheels=[], length=length, width=width, height=height
    )


def tram_body(
    z: tuple[Number, Number],
    half: Number,
    height: Number,
    color: Color,
    *,
    rear: bool,
    front: bool,
) -> Part:
    """Returns one car of a tram; the ends of the tram are rounded and lean back."""
    behind, ahead = (1.0 if end else 0.25 for end in (rear, front))
    narrow = [0.85 * half if end else half for end in (rear, front)]
    return extrude(
        [
            (z[0] + 0.1 * behind, 0.3, narrow[0] * 0.98),
            (z[0], 1.0, narrow[0]),
            (z[0] + 0.7 * behind, height - 0.2, half * 0.95),
            (z[0] + 0.9 * behind, height, half * 0.88),
            (z[1] - 0.9 * ahead, height, half * 0.88),
            (z[1] - 0.7 * ahead, height - 0.2, half * 0.95),
            (z[1], 1.0, narrow[1]),
            (z[1] - 0.1 * ahead, 0.3, narrow[1] * 0.98),
        ],
        color,
    )


def dress_tram(
    body: Part, z: tuple[Number, Number], height: Number, color: Color, *, rear: bool, front: bool
):
    """Adds windows, doors and stripes to the sides."""
    ends = z[0] + (0.9 if rear else 0.25), z[1] - (0.9 if front else 0.25)
    middle = sum(z) / 2
    body.add_sides(color, rectangle(z[0] + 0.2, z[1] - 0.2, 0.3, 0.95))
    body.add_sides(color * 0.8, rectangle(*ends, height - 0.35, height - 0.15))
    windows_along(body, ends, (1.15, height - 0.6), 1.5)
    body.add_sides(color * 0.6, rectangle(middle - 0.7, middle + 0.7, 0.35, 1.1))
    doors = [rectangle(at, at + 0.6, 0.5, height - 0.6) for at in (middle - 0.65, middle + 0.05)]
    body.add_sides(GLASS, *doors, kind="glass")
    body.add_sides(BLACK, rectangle(z[0] + 1.2, z[1] - 1.2, 0.3, 0.42))


def face_of_tram(screen: Face, bumper: Face, lights: Color, *, upwards: bool):
    """Adds a window, a sign and lights to one end, whose faces run upwards or downwards."""

    def span(low: Number, high: Number) -> tuple[Number, Number]:
        return (1 - high, 1 - low) if upwards else (low, high)

    screen.add(GLASS, (0.06, 0.94, *span(0.12, 0.8)), kind="glass")
    screen.add(LETTERS, (0.3, 0.7, *span(0.03, 0.09)), kind="glow")
    bumper.add(lights, (0.06, 0.2, 0.3, 0.6), (0.8, 0.94, 0.3, 0.6))
    bumper.add(DARK, (0.3, 0.7, *span(0.6, 0.95)))
