"""Traffic lights and traffic signs, and the poles that carry them."""

import numpy as np

from m2f_jax.streets.drawing.canvas import Canvas, Polygon
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.shapes import METALS, bar, disc, panel, post_item
from m2f_jax.streets.drawing.stage import Item
from m2f_jax.streets.drawing.view import View

POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 17, 19, 20
LAMPS = ((0.95, 0.2, 0.12), (0.98, 0.7, 0.15), (0.2, 0.9, 0.5))


def traffic_light(rng: Random, x: Number, z: Number, over: int, *, arm: bool) -> Item:
    """Returns a traffic light beside the road, and one above it on an arm."""
    metal = rng.color(*METALS)
    lit = rng.choose((0, 2, 2, 1))
    faces_us = rng.chance(0.75)
    height, reach = rng.uniform(5.2, 6), rng.uniform(3, 4.5)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        color = view.seen(metal, z, sunlit)
        shapes = [bar(view, (x, 0, z), (x, height if arm else 3.5, z), 0.15)]
        heads = [(x, 2.9, z - 0.1)]
        if arm:
            shapes.append(bar(view, (x, height, z), (x + over * reach, height, z), 0.12))
            heads.append((x + over * (reach - 0.3), height - 0.5, z - 0.1))
        canvas.fill(shapes, color, POLE, tilt=(0.4, 0))
        case = view.seen(np.array([0.10, 0.11, 0.11]), z, sunlit)
        for head in heads:
            canvas.fill([panel(view, head, (0.34, 0.95))], case, TRAFFIC_LIGHT)
            for k, lamp_color in enumerate(LAMPS):
                centre = (head[0], head[1] + 0.29 * (1 - k), head[2])
                bright = 1.0 if k == lit and faces_us else 0.22
                canvas.fill([disc(view, centre, 0.115, 10)], np.array(lamp_color) * bright)

    return post_item(x, z, height if arm else 3.5, draw, overhang=reach + 0.5)


def traffic_sign(rng: Random, x: Number, z: Number) -> Item:
    """Returns one or two signs on a post, some seen from behind."""
    metal = rng.color(*METALS)
    kinds = [rng.choose(("ban", "warning", "blue", "yield", "board", "priority", "back"))]
    if rng.chance(0.3):
        kinds.append(rng.choose(("board", "blue", "ban")))
    height = rng.uniform(2.3, 3.0)
    motif = rng.choose(((0.25, 0.5), (0.5, 0.16), (0.2, 0.2)))

    def draw(canvas: Canvas, view: View, sunlit: bool):
        pole = view.seen(metal, z, sunlit)
        canvas.fill([bar(view, (x, 0, z), (x, height + 0.3, z), 0.09)], pole, POLE, tilt=(0.4, 0))
        y = height
        for kind in kinds:
            draw_sign(canvas, view, (x, y, z - 0.06), kind, motif, sunlit)
            y -= 0.68

    return post_item(x, z, height, draw)


def draw_sign(
    canvas: Canvas,
    view: View,
    at: tuple[Number, Number, Number],
    kind: str,
    motif: tuple[Number, Number],
    sunlit: bool,
):
    """Draws one sign."""
    red, blue, white, black, yellow, grey = (
        view.seen(np.array(color), at[2], sunlit)
        for color in (
            (0.78, 0.10, 0.12),
            (0.10, 0.25, 0.65),
            (0.92, 0.92, 0.90),
            (0.1, 0.1, 0.1),
            (0.95, 0.75, 0.1),
            (0.5, 0.5, 0.5),
        )
    )
    size = motif[0] * 0.6, motif[1] * 0.6
    if kind in ("ban", "blue", "back"):
        rim, field = {"ban": (red, white), "blue": (white, blue), "back": (grey, grey)}[kind]
        canvas.fill([disc(view, at, 0.32, 18)], rim, TRAFFIC_SIGN)
        canvas.fill([disc(view, at, 0.25 if kind == "ban" else 0.29, 18)], field)
        if kind != "back":
            canvas.fill([panel(view, at, size)], black if kind == "ban" else white)
    elif kind == "board":
        canvas.fill([panel(view, at, (0.62, 0.42))], black, TRAFFIC_SIGN)
        canvas.fill([panel(view, at, (0.58, 0.38))], white)
        lines = [panel(view, (at[0], at[1] + dy, at[2]), (0.4, 0.06)) for dy in (0.09, -0.07)]
        canvas.fill(lines, black)
    elif kind == "priority":
        for width, color in ((0.36, white), (0.25, yellow)):
            canvas.fill(
                [turned(disc(view, at, width, 4))], color, TRAFFIC_SIGN if width > 0.3 else None
            )
    else:
        outer, inner = disc(view, at, 0.42, 3), disc(view, at, 0.27, 3)
        if kind == "yield":
            centre = view.project_plan([at])
            outer, inner = 2 * centre - outer, 2 * centre - inner
        canvas.fill([outer], red, TRAFFIC_SIGN)
        canvas.fill([inner], white)
        if kind == "warning":
            canvas.fill([panel(view, (at[0], at[1] - 0.02, at[2]), (0.07, 0.22))], black)


def turned(square: Polygon) -> Polygon:
    """Turns a square so that it stands on a corner."""
    return (square + np.roll(square, -1, axis=0)) / 2
