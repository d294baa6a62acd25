"""Street furniture: lamps, traffic lights, signs, walls, fences, and void such as bins and prams."""

import numpy as np
from jaxtyping import Float

from m2f_jax.datasets.street_canvas import Canvas, Colour, Polygon, rasterise
from m2f_jax.datasets.street_dice import Dice
from m2f_jax.datasets.street_stage import Footprint, Item, box_points
from m2f_jax.datasets.street_texture import noise, stripes
from m2f_jax.datasets.street_view import View

STATIC, DYNAMIC, WALL, FENCE, POLE, TRAFFIC_LIGHT, TRAFFIC_SIGN = 4, 5, 12, 13, 17, 19, 20
METALS = ((0.45, 0.46, 0.46), (0.30, 0.32, 0.32), (0.24, 0.30, 0.27), (0.58, 0.58, 0.57))


def bar(
    view: View, start: tuple[float, float, float], end: tuple[float, float, float], width: float
) -> Polygon:
    """A bar between two points as seen from anywhere, as pixels."""
    ends = view.project_plan([start, end])
    along = ends[1] - ends[0]
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6) * width / 2
    first, second = across * view.scale(start[2]), across * view.scale(end[2])
    return np.stack([ends[0] - first, ends[0] + first, ends[1] + second, ends[1] - second])


def disc(view: View, centre: tuple[float, float, float], radius: float, corners: int) -> Polygon:
    """A regular polygon that faces the camera; three corners stand on their base."""
    turns = (np.arange(corners) + (0.5 if corners % 2 == 0 else 0.0)) / corners * 2 * np.pi
    around = np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    return view.project_plan([centre]) + around * radius * view.scale(centre[2])


def panel(
    view: View, centre: tuple[float, float, float], size: tuple[float, float]
) -> Polygon:
    """A rectangle that faces the camera; its size is width and height."""
    x, y, z = centre
    width, height = size[0] / 2, size[1] / 2
    return view.project_plan([(x - width, y - height, z), (x - width, y + height, z),
                              (x + width, y + height, z), (x + width, y - height, z)])  # fmt: skip


def post_item(x: float, z: float, height: float, draw, width: float = 0.12) -> Item:
    """An item that stands on a thin post."""
    footprint = (x - width / 2, x + width / 2, z - width / 2, z + width / 2)
    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, height),))


def lamp(dice: Dice, x: float, z: float, over: int) -> Item:
    """A street lamp with an arm to the left (over = -1) or right (1)."""
    height, reach = dice.uniform(6, 9), dice.uniform(0.8, 2.2)
    metal = dice.colour(*METALS)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        colour = view.hazy(view.lit(metal, (-over, 0, 0), sunlit), z)
        end = (x + over * reach, height + 0.25, z)
        shapes = [bar(view, (x, 0, z), (x, height, z), 0.14), bar(view, (x, 0, z), (x, 1.2, z), 0.2),
                  bar(view, (x, height, z), end, 0.09)]  # fmt: skip
        canvas.fill(shapes, colour, POLE, tilt=(0.5 * view.weather.sun_direction[0], 0))
        head = panel(view, end, (0.7, 0.14))
        canvas.fill([head], colour * 0.8, POLE)
        if view.weather.dark:
            glow = panel(view, (end[0], end[1] - 0.09, z), (0.5, 0.08))
            canvas.fill([glow], np.array([1.0, 0.9, 0.65]))

    return post_item(x, z, height, draw)


def traffic_light(dice: Dice, x: float, z: float, over: int, *, arm: bool) -> Item:
    """A traffic light beside the road, and one above it on an arm."""
    metal = dice.colour(*METALS)
    lit = dice.choose((0, 2, 2, 1))
    faces_us = dice.chance(0.75)
    height, reach = dice.uniform(5.2, 6), dice.uniform(3, 4.5)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        colour = view.hazy(view.lit(metal, (0, 0, -1), sunlit), z)
        shapes = [bar(view, (x, 0, z), (x, height if arm else 3.5, z), 0.15)]
        heads = [(x, 2.9, z - 0.1)]
        if arm:
            shapes.append(bar(view, (x, height, z), (x + over * reach, height, z), 0.12))
            heads.append((x + over * (reach - 0.3), height - 0.5, z - 0.1))
        canvas.fill(shapes, colour, POLE, tilt=(0.4, 0))
        case = view.hazy(view.lit(np.array([0.10, 0.11, 0.11]), (0, 0, -1), sunlit), z)
        for head in heads:
            canvas.fill([panel(view, head, (0.34, 0.95))], case, TRAFFIC_LIGHT)
            for k, lamp_colour in enumerate(((0.95, 0.2, 0.12), (0.98, 0.7, 0.15), (0.2, 0.9, 0.5))):
                centre = (head[0], head[1] + 0.29 * (1 - k), head[2])
                bright = 1.0 if k == lit and faces_us else 0.22
                canvas.fill([disc(view, centre, 0.115, 10)], np.array(lamp_colour) * bright)

    return post_item(x, z, height if arm else 3.5, draw)


def traffic_sign(dice: Dice, x: float, z: float) -> Item:
    """One or two signs on a post, some seen from behind."""
    metal = dice.colour(*METALS)
    kinds = [dice.choose(("ban", "warning", "blue", "yield", "board", "priority", "back"))]
    if dice.chance(0.3):
        kinds.append(dice.choose(("board", "blue", "ban")))
    height = dice.uniform(2.3, 3.0)
    motif = dice.choose(((0.25, 0.5), (0.5, 0.16), (0.2, 0.2)))

    def draw(canvas: Canvas, view: View, sunlit: bool):
        pole = view.hazy(view.lit(metal, (0, 0, -1), sunlit), z)
        canvas.fill([bar(view, (x, 0, z), (x, height + 0.3, z), 0.09)], pole, POLE, tilt=(0.4, 0))
        y = height
        for kind in kinds:
            draw_sign(canvas, view, (x, y, z - 0.06), kind, motif, sunlit)
            y -= 0.68

    return post_item(x, z, height, draw)


def draw_sign(
    canvas: Canvas,
    view: View,
    at: tuple[float, float, float],
    kind: str,
    motif: tuple[float, float],
    sunlit: bool,
):
    """One sign."""
    red, blue, white, black, yellow, grey = (
        view.hazy(view.lit(np.array(colour), (0, 0, -1), sunlit), at[2])
        for colour in ((0.78, 0.10, 0.12), (0.10, 0.25, 0.65), (0.92, 0.92, 0.90),
                       (0.1, 0.1, 0.1), (0.95, 0.75, 0.1), (0.5, 0.5, 0.5))
    )  # fmt: skip
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
        for width, colour in ((0.36, white), (0.25, yellow)):
            canvas.fill([turned(disc(view, at, width, 4))], colour,
                        TRAFFIC_SIGN if width > 0.3 else None)  # fmt: skip
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
    """A square standing on a corner."""
    return (square + np.roll(square, -1, axis=0)) / 2 * 1.0


def bollard(dice: Dice, x: float, z: float) -> Item:
    """A short post."""
    metal = dice.colour(*METALS, (0.55, 0.2, 0.18))

    def draw(canvas: Canvas, view: View, sunlit: bool):
        colour = view.hazy(view.lit(metal, (0, 0, -1), sunlit), z)
        canvas.fill([bar(view, (x, 0, z), (x, 0.95, z), 0.14)], colour, POLE, tilt=(0.6, 0))
        canvas.fill([bar(view, (x, 0.7, z), (x, 0.82, z), 0.14)], colour * 0.3 + 0.6)

    return post_item(x, z, 0.95, draw, width=0.14)


def barrier(
    dice: Dice, start: tuple[float, float], end: tuple[float, float], *, solid: bool
) -> Item:
    """A wall (solid) or a fence over a line between two points (x, z) of the plan, far to near."""
    height = dice.uniform(0.8, 2.0) if solid else dice.uniform(0.9, 1.5)
    colour = (
        dice.colour((0.60, 0.57, 0.52), (0.55, 0.36, 0.29), (0.72, 0.70, 0.66), (0.45, 0.45, 0.44))
        if solid
        else dice.colour((0.40, 0.29, 0.20), (0.25, 0.27, 0.26), (0.66, 0.65, 0.62))
    )
    gap = dice.choose((0.12, 0.16, 0.3))
    footprint: Footprint = (min(start[0], end[0]) - 0.1, max(start[0], end[0]) + 0.1,
                            min(start[1], end[1]), max(start[1], end[1]))  # fmt: skip
    normal = (0.0, 0.0, -1.0) if start[1] == end[1] else (-1.0 if start[0] > 0 else 1.0, 0.0, 0.0)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        count = max(1, int(abs(end[1] - start[1]) / 8))
        for k in range(count):
            points = [tuple(a + (b - a) * t for a, b in zip(start, end, strict=True))
                      for t in (k / count, (k + 1) / count)]  # fmt: skip
            if min(z for _, z in points) > 1.5:
                draw_barrier(canvas, view, points, view.lit(colour, normal, sunlit), height,
                             gap=None if solid else gap)  # fmt: skip

    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, height),))


def draw_barrier(
    canvas: Canvas,
    view: View,
    line: list[tuple[float, ...]],
    colour: Colour,
    height: float,
    gap: float | None,
):
    """A straight piece; bars that far apart, or a wall if that is None."""
    (x0, z0), (x1, z1) = line
    corners = view.project_plan([(x0, 0, z0), (x0, height, z0), (x1, height, z1), (x1, 0, z1)])
    patch = rasterise([corners], view.size)
    if patch is None:
        return
    x0, x1 = x0 + view.bend * z0**2, x1 + view.bend * z1**2
    slope = (patch.columns - view.centre_x) / view.focal
    across = (x1 - x0) - slope * (z1 - z0)
    t = ((slope * z0 - x0) / np.where(np.abs(across) < 1e-6, 1e-6, across)).clip(0, 1)
    z = z0 + t * (z1 - z0)
    u = t * float(np.hypot(x1 - x0, z1 - z0))
    v = view.height + (view.centre_y - patch.rows) * z / view.focal
    du = np.abs(np.gradient(u[0]))[None].clip(1e-3) if u.shape[1] > 1 else z / view.focal
    dv = z / view.focal
    opacity: Float[np.ndarray, "h w"] = np.ones(v.shape)
    stain = 1 + 0.2 * noise(u * 8, v * 8) + 0.12 * noise(u * 40, v * 40, fine=True)
    if gap is None:
        stain = stain - 0.2 * stripes(v, dv, 0.4, 0, 0.03) + 0.2 * (v > height - 0.12)
    else:
        bars = stripes(u, du, gap, 0, 0.06) + stripes(u, du, 2.4, 0, 0.14)
        rails = stripes(v, dv, height - 0.3, 0.1, 0.18) + 0 * u
        opacity = (bars + rails).clip(0, 1)
    shade = colour * stain[..., None]
    haze = view.haziness(z)[..., None]
    canvas.paint(patch, shade + (view.haze - shade) * haze, opacity)
    canvas.claim(patch, WALL if gap is None else FENCE)


def static_thing(dice: Dice, x: float, z: float) -> Item:
    """A bin, a switch box, a bench, an advertising column: void, label "static"."""
    kind = dice.choose(("bin", "box", "bench", "column", "bin"))
    width, height = {"bin": (0.55, 0.95), "box": (0.9, 1.25), "bench": (1.7, 0.85),
                     "column": (1.25, 3.1)}[kind]  # fmt: skip
    colour = dice.colour((0.30, 0.34, 0.30), (0.50, 0.50, 0.47), (0.36, 0.26, 0.18),
                         (0.2, 0.22, 0.26))  # fmt: skip
    posters = [dice.colour((0.8, 0.5, 0.3), (0.4, 0.6, 0.8), (0.9, 0.9, 0.8)) for _ in range(3)]
    footprint = (x - width / 2, x + width / 2, z - 0.3, z + 0.3)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        shade = view.hazy(view.lit(colour, (0, 0, -1), sunlit), z)
        tilt = (0.5 * view.weather.sun_direction[0], 0.1)
        if kind == "bench":
            seat = [panel(view, (x, 0.45, z), (width, 0.08)), panel(view, (x, 0.75, z), (width, 0.2))]
            legs = [bar(view, (x + dx, 0, z), (x + dx, 0.8, z), 0.08) for dx in (-0.7, 0.7)]
            canvas.outline([panel(view, (x, 0.43, z), (width, 0.85))], STATIC)
            canvas.fill(seat + legs, shade, STATIC, tilt=tilt)
            return
        canvas.fill([panel(view, (x, height / 2, z), (width, height))], shade, STATIC, tilt=tilt)
        top = [(x - width / 2, height, z), (x + width / 2, height, z),
               (x + width / 2, height, z + 0.5), (x - width / 2, height, z + 0.5)]  # fmt: skip
        if height < view.height:
            canvas.fill([view.project_plan(top)], shade * 1.3, STATIC)
        if kind == "column":
            for k, poster in enumerate(posters):
                lit = view.hazy(view.lit(poster, (0, 0, -1), sunlit), z)
                place = (x - 0.3 + 0.33 * k, 1.4 + 0.2 * (k % 2), z - 0.01)
                canvas.fill([panel(view, place, (0.3, 0.9))], lit, tilt=tilt)
        else:
            canvas.fill([panel(view, (x, height * 0.8, z - 0.01), (width * 0.8, 0.06))], shade * 0.5)

    return Item(
        footprint=footprint, draw=draw, shadow=(box_points(footprint, height),), contact=True
    )


def dynamic_thing(dice: Dice, x: float, z: float) -> Item:
    """A pram, a suitcase or a dog: void, label "dynamic"."""
    kind = dice.choose(("pram", "suitcase", "dog"))
    colour = dice.colour((0.3, 0.2, 0.15), (0.25, 0.3, 0.45), (0.6, 0.5, 0.4), (0.15, 0.15, 0.15))

    def draw(canvas: Canvas, view: View, sunlit: bool):
        shade = view.hazy(view.lit(colour, (0, 0.3, -0.9), sunlit), z)
        if kind == "suitcase":
            shapes = [panel(view, (x, 0.33, z), (0.42, 0.62))]
            shapes += [bar(view, (x + dx, 0.6, z), (x + dx, 1.0, z), 0.03) for dx in (-0.1, 0.1)]
        elif kind == "pram":
            shapes = [disc(view, (x, 0.8, z), 0.33, 12), panel(view, (x + 0.1, 0.65, z), (0.8, 0.3)),
                      bar(view, (x + 0.3, 0.6, z), (x + 0.65, 1.05, z), 0.05)]  # fmt: skip
            wheels = [disc(view, (x + dx, 0.2, z), 0.19, 12) for dx in (-0.25, 0.35)]
            canvas.fill(wheels, shade * 0.4, DYNAMIC)
        else:
            shapes = [panel(view, (x, 0.45, z), (0.62, 0.24)), disc(view, (x + 0.4, 0.6, z), 0.13, 10),
                      bar(view, (x - 0.3, 0.5, z), (x - 0.5, 0.7, z), 0.05)]  # fmt: skip
            shapes += [bar(view, (x + dx, 0, z), (x + dx, 0.4, z), 0.07)
                       for dx in (-0.27, -0.18, 0.17, 0.27)]  # fmt: skip
        canvas.fill(shapes, shade, DYNAMIC, tilt=(0.3 * view.weather.sun_direction[0], -0.4))

    footprint = (x - 0.35, x + 0.35, z - 0.2, z + 0.2)
    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, 0.8),), contact=True)
