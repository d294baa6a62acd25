"""Buses and trams."""

import numpy as np

from m2f_jax.streets.canvas import Color
from m2f_jax.streets.dice import Dice, Number
from m2f_jax.streets.solids import (
    BLACK,
    DARK,
    GLASS,
    LAMP,
    LIVERIES,
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

BUS, TRAIN = 28, 31
LETTERS = np.array([0.95, 0.65, 0.15])


def bus(dice: Dice) -> Vehicle:
    """A city bus, rarely with two decks."""
    length, width = dice.uniform(10.5, 12.5), 2.52
    two_decks = dice.chance(0.12)
    height = 4.1 if two_decks else dice.uniform(2.95, 3.2)
    half, back, front = width / 2, -length / 2, length / 2
    main, second = dice.color(*LIVERIES), dice.color(*LIVERIES)
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
    sill, top = dice.uniform(1.0, 1.25), 2.55 if two_decks else height - 0.5
    body.add_sides(second, rectangle(back, front, 0.32, sill - dice.uniform(0.1, 0.5)))
    windows_along(body, (back + 0.4, front - 1.4), (sill, top), dice.uniform(1.2, 1.9))
    if two_decks:
        windows_along(body, (back + 0.4, front - 0.4), (2.85, 3.7), 1.5)
    for z in (front - 1.3, dice.uniform(-1.0, 0.5)):
        doors = rectangle(z, z + 0.52, 0.4, top), rectangle(z + 0.58, z + 1.1, 0.4, top)
        body.add_sides(GLASS, *doors, kind="glass")
    axles = back + 2.9, front - 2.5
    body.add_sides(BLACK, *(arch(z, 0.5, 0.6) for z in axles))
    if dice.chance(0.5):  # an advertisement
        body.add_sides(dice.color(*LIVERIES), rectangle(-3.2, 1.8, 0.5, sill - 0.1))

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


def tram(dice: Dice) -> Vehicle:
    """A tram of several joined cars; Cityscapes calls it a train."""
    cars, long = dice.whole(2, 4), dice.uniform(6.5, 9.0)
    width, height = 2.4, dice.uniform(3.2, 3.5)
    main, second = dice.color(*LIVERIES), dice.color(*LIVERIES)
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
    """One car of a tram; the ends of the tram are rounded and lean back."""
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
    """Windows, doors and stripes on the sides."""
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
    """The window, the sign and the lights of one end, whose faces run upwards or downwards."""

    def span(low: Number, high: Number) -> tuple[Number, Number]:
        return (1 - high, 1 - low) if upwards else (low, high)

    screen.add(GLASS, (0.06, 0.94, *span(0.12, 0.8)), kind="glass")
    screen.add(LETTERS, (0.3, 0.7, *span(0.03, 0.09)), kind="glow")
    bumper.add(lights, (0.06, 0.2, 0.3, 0.6), (0.8, 0.94, 0.3, 0.6))
    bumper.add(DARK, (0.3, 0.7, *span(0.6, 0.95)))
