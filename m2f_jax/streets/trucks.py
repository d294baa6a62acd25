"""Trucks, trailers and caravans."""

import numpy as np

from m2f_jax.streets.canvas import Color
from m2f_jax.streets.dice import Dice, Number
from m2f_jax.streets.solids import (
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
    box,
    extrude,
    mirrors,
    rectangle,
    windows_along,
)

TRUCK, CARAVAN, TRAILER = 27, 29, 30


def truck(dice: Dice) -> Vehicle:
    """A truck with a box, a covered load, an open bed or a tank."""
    length, width = dice.uniform(6.2, 9.5), dice.uniform(2.2, 2.5)
    half, back, front = width / 2, -length / 2, length / 2
    cab_back, cab_top = front - dice.uniform(1.7, 2.2), dice.uniform(2.5, 3.0)
    cab = truck_cab(dice.color(*LIVERIES, *PAINTS[:8]), (cab_back, front), half, cab_top)
    frame = box(width * 0.8, (0.55, 0.95), (back, front - 0.3), DARK)
    frame.strips[0].add(TAIL_LIGHT, (0.02, 0.16, 0.2, 0.7), (0.84, 0.98, 0.2, 0.7))
    frame.strips[0].add(WHITE, (0.42, 0.58, 0.2, 0.6))
    height = dice.uniform(2.9, 3.8)
    load = truck_load(dice, (back, cab_back - 0.15), width, height)
    axles = [front - 1.1, back + 1.6, *([back + 2.7] if length > 8 else [])]
    rim = dice.color((0.5, 0.5, 0.5), (0.6, 0.2, 0.15))
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
    """The driver's cab."""
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


def truck_load(dice: Dice, z: tuple[Number, Number], width: Number, height: Number) -> list[Part]:
    """What a truck carries, between two z."""
    back, front = z
    half = width / 2
    kind = dice.weighted({"box": 4, "cover": 2, "open": 2, "tank": 1})
    color = dice.color(*LIVERIES, (0.85, 0.85, 0.83), (0.85, 0.85, 0.83))
    if kind == "open":
        earth = dice.color((0.45, 0.38, 0.28), (0.5, 0.5, 0.48), (0.35, 0.25, 0.18))
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
    sign = dice.color(*LIVERIES)
    centre, reach = (back + front) / 2, (front - back) * dice.uniform(0.2, 0.42)
    body.add_sides(sign, rectangle(centre - reach, centre + reach, 1.6, height - 0.6))
    edges = rectangle(back, front, 0.95, 1.05), rectangle(back, front, height - 0.08, height)
    body.add_sides(color * 0.7, *edges)
    if kind == "cover":
        folds = np.arange(back + 0.6, front, 0.9).tolist()
        body.add_sides(color * 0.75, *(rectangle(z, z + 0.08, 1.05, height) for z in folds))
    rear, _, front_wall = body.strips
    rear.add(color * 0.55, (0.49, 0.51, 0.02, 0.98), (0.0, 0.03, 0, 1), (0.97, 1, 0, 1))
    rear.add(color * 0.55, (0, 1, 0.0, 0.03), (0, 1, 0.97, 1))
    if dice.chance(0.5):
        rear.add(sign, (0.15, 0.85, 0.45, 0.75))
    front_wall.add(color * 0.8, (0.05, 0.95, 0.05, 0.4))
    return [body]


def towed(dice: Dice) -> Vehicle:
    """A trailer or a caravan."""
    if dice.chance(0.4):
        label_id, length, width, height = CARAVAN, 4.6, 2.2, 2.5
        rear = [(-2.2, 0.5, 1.05), (-2.3, 1.3, 1.1), (-2.1, 2.5, 1.05)]
        body = extrude([*rear, *[(-z, y, half) for z, y, half in rear[::-1]]], WHITE)
        body.strips[1].add(GLASS, (0.15, 0.85, 0.25, 0.75), kind="glass")
        body.strips[0].add(TAIL_LIGHT, (0.02, 0.15, 0.3, 0.8), (0.85, 0.98, 0.3, 0.8))
        windows_along(body, (-1.5, 1.5), (1.3, 2.0), 1.4, gap=0.5)
        body.add_sides(dice.color(*LIVERIES), rectangle(-2.1, 2.1, 0.95, 1.08))
    else:
        label_id, length, width, height = TRAILER, 2.8, 1.7, dice.choose((1.1, 1.9))
        paint = dice.color((0.86, 0.86, 0.83), (0.45, 0.45, 0.45), (0.3, 0.35, 0.3))
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
