"""Buildings along a street and across its end: facades, roofs, and whole houses."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Canvas, Color
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.shapes import Plane, upright
from m2f_jax.streets.drawing.stage import Item, box_points
from m2f_jax.streets.drawing.texture import band, mix, noise, stripes
from m2f_jax.streets.drawing.view import View

BUILDING = 11


@dataclass(frozen=True, kw_only=True)
class Style:
    """The look of a facade; lengths are metres."""

    height: Number
    wall: Color
    trim: Color
    floor: Number
    bay: Number
    """The distance from the middle of one window to that of the next."""
    window: tuple[Number, Number]
    """Width and height of a window, as shares of a bay and of a floor."""
    ground_floor: Number
    shops: bool
    bricks: bool
    modern: bool
    """Bands of glass instead of single windows."""
    balconies: bool
    roof: Number
    """The height of a pitched roof; 0 for a flat one."""
    roof_color: Color
    seed: int

    @property
    def rng(self) -> Random:
        """Random choices for details, the same on every call."""
        return Random(self.seed)


def draw_wall(
    canvas: Canvas,
    view: View,
    start: tuple[Number, Number],
    end: tuple[Number, Number],
    style: Style,
    normal: tuple[Number, Number, Number],
    *,
    plain: bool,
):
    """Draws a wall over the line from one point (x, z) of the plan to another."""
    plane = upright(view, start, end, style.height)
    if plane is None:
        return
    colors = wall_colors(plane, style, view, normal, plain=plain)
    haze = np.broadcast_to(view.haziness(plane.z), plane.v.shape)
    canvas.paint(plane.patch, mix(colors, view.weather.horizon, haze))
    canvas.claim(plane.patch, BUILDING)


def wall_colors(
    wall: Plane, style: Style, view: View, normal: tuple[Number, Number, Number], *, plain: bool
) -> Float[np.ndarray, "h w 3"]:
    """Returns the colors of a wall's pixels in this light."""
    u, v, du, dv = wall.u, wall.v, wall.du, wall.dv
    rng = style.rng
    light = view.lit(np.ones(3), normal, True).astype(np.float32)
    stain = 1 + 0.16 * noise(u * 6, v * 6) + 0.10 * noise(u * 40, v * 40, fine=True)
    if style.bricks:
        stain = stain - 0.22 * stripes(v, dv, 0.25, 0, 0.03)
    stain = stain - 0.25 * (0.6 - v).clip(0, 0.6)
    colors = (style.wall * light).astype(np.float32) * stain[..., None]
    if plain:
        return colors
    trim = style.trim * light
    upper = v - style.ground_floor
    over = band(v, dv, style.ground_floor, style.height - 0.5)
    bays = max(round(wall.length / style.bay), 1)
    bay = wall.length / bays
    pane_width = style.window[0] * bay if not style.modern else 0.94 * bay
    left = (bay - pane_width) / 2
    low = style.floor * (0.26 if not style.modern else 0.2)
    high = low + style.floor * style.window[1]

    floors = int((style.height - style.ground_floor) / style.floor + 1)
    chances = rng.fractions(floors + 1, bays + 1)
    cell = (upper / style.floor).clip(0, floors).astype(int), (u / bay).clip(0, bays).astype(int)
    chance = chances[cell[0], cell[1]]

    def opening(margin: Number) -> np.ndarray:
        across = stripes(u, du, bay, left - margin, left + pane_width + margin)
        return over * across * stripes(upper, dv, style.floor, low - margin, high + margin)

    frame = min(0.14, left * 0.8)
    colors = mix(colors, trim, opening(frame))
    within = ((upper - np.floor(upper / style.floor) * style.floor - low) / (high - low)).clip(0, 1)
    sky = ((0.75 * view.weather.zenith + 0.25) * view.weather.ambient.mean()).astype(np.float32)
    glass = np.array([0.13, 0.14, 0.16]) + 0.5 * sky * (0.15 + 0.85 * chance * within)[..., None]
    curtain = ((chance * 7) % 1 < 0.3) & (within > (chance * 13) % 1 * 0.8)
    glass = np.where(curtain[..., None], 0.6 * light * np.array([0.95, 0.93, 0.88]), glass)
    if view.weather.dark:
        lamp = (chance * 5) % 1 < 0.35
        glass = np.where(lamp[..., None], np.array([0.95, 0.78, 0.45]), glass)
    colors = mix(colors, glass, opening(0.0))
    cross = stripes(u, du, bay, bay / 2 - 0.04, bay / 2 + 0.04) * opening(0.0)
    colors = mix(colors, trim, 0.8 * cross)
    sill = over * stripes(u, du, bay, left - 0.1, left + pane_width + 0.1)
    ledge = sill * stripes(upper, dv, style.floor, low - frame - 0.12, low - frame)
    colors = mix(colors, trim * 1.1, ledge)
    if style.balconies:
        wide = stripes(u, du, 2 * bay, 0.1 * bay, 0.9 * bay) * over
        rail = stripes(upper, dv, style.floor, 0.0, 1.0) * (upper > style.floor * 0.5)
        bars = 0.45 + 0.55 * stripes(u, du, 0.22, 0, 0.08)
        colors = mix(colors, trim * 0.55, wide * rail * bars)
        slab = stripes(upper, dv, style.floor, -0.15, 0.05) * (upper > style.floor * 0.5)
        colors = mix(colors, trim * 0.9, wide * slab)
    if rng.chance(0.6):
        colors = mix(colors, trim * 1.05, over * stripes(upper, dv, style.floor, 0, 0.16))
    cornice = band(v, dv, style.height - 0.45, style.height)
    colors = mix(colors, trim * 0.95, cornice)
    colors = mix(colors, trim * 0.5, band(v, dv, style.height - 0.55, style.height - 0.45))
    return ground_floor_colors(colors, wall, style, light, sky, rng)


def ground_floor_colors(
    colors: Float[np.ndarray, "h w 3"],
    wall: Plane,
    style: Style,
    light: Color,
    sky: Color,
    rng: Random,
) -> Float[np.ndarray, "h w 3"]:
    """Adds the lowest floor: shops with signs and awnings, or windows and doors."""
    u, v, du, dv = wall.u, wall.v, wall.du, wall.dv
    top = style.ground_floor
    units = max(round(wall.length / rng.uniform(3.6, 6.5)), 1)
    unit = wall.length / units
    chances = rng.fractions(units + 1, 4)[(u / unit).clip(0, units).astype(int)]
    reflection = np.array([0.12, 0.12, 0.13]) + 0.3 * sky * (0.5 + noise(u * 20, v * 20))[..., None]
    if style.shops:
        front = stripes(u, du, unit, 0.25, unit - 0.25)
        colors = mix(colors, style.wall * light * 0.7, band(v, dv, 0, top - 0.2) + 0 * u)
        goods = 0.5 + 0.5 * noise(u * 55, v * 70 + 40)[..., None]
        inside = reflection + 0.35 * goods * (1.4 - v).clip(0, 1)[..., None] * chances[..., 1:]
        colors = mix(colors, inside, front * band(v, dv, 0.45, 2.5))
        posts = stripes(u, du, unit / 3, 0, 0.08) * front
        colors = mix(colors, style.trim * light * 0.8, posts * band(v, dv, 0.45, 2.5))
        sign = (0.15 + 0.7 * chances[..., 1:]) * light
        colors = mix(colors, sign + 0 * colors, front * band(v, dv, 2.6, 3.2))
        text = (noise(u * 45, 0 * v + 7, fine=True) > 0.1) * band(v, dv, 2.75, 3.05)
        named = stripes(u, du, unit, 0.3 * unit, 0.7 * unit)
        colors = mix(colors, np.abs(1 - sign) + 0 * colors, 0.8 * text * named)
        awning = (chances[..., 0] < 0.3) * front * band(v, dv, 2.2, 2.75)
        cloth = np.where(stripes(u, du, 0.5, 0, 0.25)[..., None] > 0.5, 0.85 * light, sign)
        colors = mix(colors, cloth + 0 * colors, awning)
    else:
        pane = stripes(u, du, unit / 2, 0.3 * unit / 2, 0.7 * unit / 2)
        window = pane * band(v, dv, 1.0, min(2.4, top - 0.5))
        colors = mix(colors, style.trim * light, pane * band(v, dv, 0.9, min(2.5, top - 0.4)))
        colors = mix(colors, reflection, window * 0.95)
    door = stripes(u, du, 3 * unit, 0.1, 1.2) * band(v, dv, 0, 2.2)
    frame = stripes(u, du, 3 * unit, 0.0, 1.3) * band(v, dv, 0, 2.3)
    wood = rng.color((0.32, 0.20, 0.14), (0.20, 0.24, 0.22), (0.5, 0.5, 0.5), (0.25, 0.12, 0.1))
    colors = mix(colors, style.trim * light, frame)
    return mix(colors, wood * light, door)


WALLS = (
    (0.72, 0.66, 0.56), (0.80, 0.77, 0.70), (0.66, 0.50, 0.40), (0.58, 0.33, 0.26),
    (0.62, 0.60, 0.57), (0.76, 0.66, 0.46), (0.52, 0.55, 0.58), (0.82, 0.72, 0.62),
    (0.44, 0.40, 0.38), (0.60, 0.62, 0.52), (0.78, 0.60, 0.50), (0.86, 0.85, 0.82),
)  # fmt: skip
ROOFS = ((0.45, 0.24, 0.18), (0.30, 0.28, 0.28), (0.38, 0.33, 0.30), (0.52, 0.30, 0.22))


def random_style(rng: Random, kind: str) -> Style:
    """Returns the style of a house of a city street, or of a small one of a suburb."""
    small = kind == "suburb"
    modern = not small and rng.chance(0.2)
    floor = rng.uniform(2.7, 3.0) if small else rng.uniform(3.0, 3.8)
    ground_floor = rng.uniform(2.8, 3.2) if small else rng.uniform(3.4, 4.6)
    floors = rng.whole(1, 2) if small else rng.weighted({1: 1, 2: 2, 3: 4, 4: 4, 5: 2, 7: 0.6})
    wall = rng.color(*WALLS, spread=0.09)
    return Style(
        height=ground_floor + floors * floor + 0.4,
        wall=wall,
        trim=(wall + rng.uniform(0.08, 0.25) * rng.sign()).clip(0.15, 0.95),
        floor=floor,
        bay=rng.uniform(1.9, 3.4),
        window=(rng.uniform(0.35, 0.6), rng.uniform(0.45, 0.66)),
        ground_floor=ground_floor,
        shops=not small and rng.chance(0.6),
        bricks=rng.chance(0.25),
        modern=modern,
        balconies=not modern and rng.chance(0.2),
        roof=0.0 if modern or rng.chance(0.25) else rng.uniform(2.0, 4.5),
        roof_color=rng.color(*ROOFS),
        seed=rng.whole(0, 2**31),
    )


def building(sign: int, line: Number, near: Number, far: Number, style: Style) -> Item:
    """Returns a building along the street, whose facade is at x = line and looks at the road."""
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
                color = view.seen(style.wall, near, True)
                canvas.fill([view.project_plan([*gable, ridge])], color, BUILDING)
        draw_wall(canvas, view, (line, start), (line, end), style, (-sign, 0, 0), plain=False)

    top = style.height + style.roof * 0.6
    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, top),))


def closing_building(x: tuple[Number, Number], z: Number, style: Style) -> Item:
    """Returns a building across the end of the street."""

    def draw(canvas: Canvas, view: View, sunlit: bool):
        if style.roof:
            corners = [(x[0], style.height, z), (x[1], style.height, z)]
            ridge = [(at, style.height + style.roof, z + 4) for at in (x[1] - 1, x[0] + 1)]
            color = view.seen(style.roof_color, z, sunlit, (0, 0.7, -0.7))
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
    """Draws the slope towards the street, with windows in it and chimneys on it."""
    if not style.roof:
        return
    rng = style.rng
    over = 0.35  # the roof juts out over the facade
    ridge = line + sign * depth / 2, style.height + style.roof
    normal = (-sign * 0.7, 0.7, 0.0)
    color = view.seen(style.roof_color, (z[0] + z[1]) / 2, sunlit, normal)
    for at in np.arange(z[0] + 2, z[1] - 1, rng.uniform(5, 9)).tolist():
        if rng.chance(0.6):
            size = rng.uniform(0.4, 0.7)
            top, foot = ridge[1] + 1.2, ridge[1] - 1.5
            sides = ridge[0] - size, ridge[0] + size
            outline = [(sides[0], foot), (sides[0], top), (sides[1], top), (sides[1], foot)]
            pixels = view.project_plan([(x, y, at) for x, y in outline])
            shade = view.seen(np.array([0.42, 0.27, 0.22]), at, sunlit)
            canvas.fill([pixels], shade, BUILDING)
    eaves = line - sign * over, style.height - 0.2
    slope = [(*eaves, z[0]), (*eaves, z[1]), (*ridge, z[1]), (*ridge, z[0])]
    canvas.fill([view.project_plan(slope)], color, BUILDING, tilt=(0, -0.15))
    if rng.chance(0.6):
        panes = []
        for at in np.arange(z[0] + 1, z[1] - 1.5, style.bay * rng.whole(1, 2)).tolist():
            low, high = (
                (eaves[0] + (ridge[0] - eaves[0]) * t, eaves[1] + (ridge[1] - eaves[1]) * t)
                for t in (0.25, 0.6)
            )
            corners = [(*low, at), (*low, at + 0.9), (*high, at + 0.9), (*high, at)]
            panes.append(view.project_plan(corners))
        if panes:
            glass = view.hazy(np.array([0.25, 0.28, 0.33]), (z[0] + z[1]) / 2)
            canvas.fill(panes, glass, BUILDING)
