"""Buildings along a street and across its end, with their roofs."""

import numpy as np

from m2f_jax.streets.canvas import Canvas
from m2f_jax.streets.dice import Dice, Number
from m2f_jax.streets.facades import BUILDING, Style, draw_wall
from m2f_jax.streets.stage import Item, box_points
from m2f_jax.streets.view import View

WALLS = (
    (0.72, 0.66, 0.56), (0.80, 0.77, 0.70), (0.66, 0.50, 0.40), (0.58, 0.33, 0.26),
    (0.62, 0.60, 0.57), (0.76, 0.66, 0.46), (0.52, 0.55, 0.58), (0.82, 0.72, 0.62),
    (0.44, 0.40, 0.38), (0.60, 0.62, 0.52), (0.78, 0.60, 0.50), (0.86, 0.85, 0.82),
)  # fmt: skip
ROOFS = ((0.45, 0.24, 0.18), (0.30, 0.28, 0.28), (0.38, 0.33, 0.30), (0.52, 0.30, 0.22))


def random_style(dice: Dice, kind: str) -> Style:
    """A house for a city street, or a small one for a suburb."""
    small = kind == "suburb"
    modern = not small and dice.chance(0.2)
    floor = dice.uniform(2.7, 3.0) if small else dice.uniform(3.0, 3.8)
    ground_floor = dice.uniform(2.8, 3.2) if small else dice.uniform(3.4, 4.6)
    floors = dice.whole(1, 2) if small else dice.weighted({1: 1, 2: 2, 3: 4, 4: 4, 5: 2, 7: 0.6})
    wall = dice.color(*WALLS, spread=0.09)
    return Style(
        height=ground_floor + floors * floor + 0.4,
        wall=wall,
        trim=(wall + dice.uniform(0.08, 0.25) * dice.sign()).clip(0.15, 0.95),
        floor=floor,
        bay=dice.uniform(1.9, 3.4),
        window=(dice.uniform(0.35, 0.6), dice.uniform(0.45, 0.66)),
        ground_floor=ground_floor,
        shops=not small and dice.chance(0.6),
        bricks=dice.chance(0.25),
        modern=modern,
        balconies=not modern and dice.chance(0.2),
        roof=0.0 if modern or dice.chance(0.25) else dice.uniform(2.0, 4.5),
        roof_color=dice.color(*ROOFS),
        seed=dice.whole(0, 2**31),
    )


def building(sign: int, line: Number, near: Number, far: Number, style: Style) -> Item:
    """A building along the street, whose facade is at x = line and looks at the road."""
    depth = 11.0
    footprint = (min(line, line + sign * depth), max(line, line + sign * depth), near, far)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        start, end = max(near, 1.5), far
        if end <= start:
            return
        draw_roof(canvas, view, sign, line, (start, end), depth, style, sunlit)
        if start == near:  # the wall that faces us, over lower neighbours and side streets
            corners = sorted([(line, near), (line + sign * depth, near)])
            draw_wall(canvas, view, corners[0], corners[1], style, (0, 0, -1), plain=True)
            if style.roof:
                ridge = (line + sign * depth / 2, style.height + style.roof, near)
                gable = [(x, style.height, z) for x, z in corners]
                color = view.hazy(view.lit(style.wall, (0, 0, -1), True), near)
                canvas.fill([view.project_plan([*gable, ridge])], color, BUILDING)
        draw_wall(canvas, view, (line, start), (line, end), style, (-sign, 0, 0), plain=False)

    top = style.height + style.roof * 0.6
    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, top),))


def closing_building(x: tuple[Number, Number], z: Number, style: Style) -> Item:
    """A building across the end of the street."""

    def draw(canvas: Canvas, view: View, sunlit: bool):
        if style.roof:
            corners = [(x[0], style.height, z), (x[1], style.height, z)]
            ridge = [(at, style.height + style.roof, z + 4) for at in (x[1] - 1, x[0] + 1)]
            color = view.hazy(view.lit(style.roof_color, (0, 0.7, -0.7), sunlit), z)
            canvas.fill([view.project_plan(corners + ridge)], color, BUILDING)
        draw_wall(canvas, view, (x[0], z), (x[1], z), style, (0, 0, -1), plain=False)

    return Item(footprint=(*x, z, z + 10), draw=draw)


def draw_roof(
    canvas: Canvas,
    view: View,
    sign: int,
    line: Number,
    z: tuple[Number, Number],
    depth: Number,
    style: Style,
    sunlit: bool,
):
    """The slope towards the street, with windows in it and chimneys on it."""
    if not style.roof:
        return
    dice = style.dice
    over = 0.35  # the roof juts out over the facade
    ridge = line + sign * depth / 2, style.height + style.roof
    normal = (-sign * 0.7, 0.7, 0.0)
    color = view.hazy(view.lit(style.roof_color, normal, sunlit), (z[0] + z[1]) / 2)
    for at in np.arange(z[0] + 2, z[1] - 1, dice.uniform(5, 9)).tolist():
        if dice.chance(0.6):
            size = dice.uniform(0.4, 0.7)
            top, foot = ridge[1] + 1.2, ridge[1] - 1.5
            sides = ridge[0] - size, ridge[0] + size
            outline = [(sides[0], foot), (sides[0], top), (sides[1], top), (sides[1], foot)]
            pixels = view.project_plan([(x, y, at) for x, y in outline])
            shade = view.hazy(view.lit(np.array([0.42, 0.27, 0.22]), (0, 0, -1), sunlit), at)
            canvas.fill([pixels], shade, BUILDING)
    eaves = line - sign * over, style.height - 0.2
    slope = [(*eaves, z[0]), (*eaves, z[1]), (*ridge, z[1]), (*ridge, z[0])]
    canvas.fill([view.project_plan(slope)], color, BUILDING, tilt=(0, -0.15))
    if dice.chance(0.6):
        panes = []
        for at in np.arange(z[0] + 1, z[1] - 1.5, style.bay * dice.whole(1, 2)).tolist():
            low, high = (
                (eaves[0] + (ridge[0] - eaves[0]) * t, eaves[1] + (ridge[1] - eaves[1]) * t)
                for t in (0.25, 0.6)
            )
            corners = [(*low, at), (*low, at + 0.9), (*high, at + 0.9), (*high, at)]
            panes.append(view.project_plan(corners))
        if panes:
            glass = view.hazy(np.array([0.25, 0.28, 0.33]), (z[0] + z[1]) / 2)
            canvas.fill(panes, glass, BUILDING)
