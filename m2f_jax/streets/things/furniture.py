"""Street furniture: lamps, bollards, walls, fences, and void such as bins and prams."""

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Canvas, Color
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.shapes import METALS, bar, disc, panel, post_item, upright
from m2f_jax.streets.drawing.stage import Footprint, Item, box_points
from m2f_jax.streets.drawing.texture import mix, noise, stripes
from m2f_jax.streets.drawing.view import View

STATIC, DYNAMIC, WALL, FENCE, POLE = 4, 5, 12, 13, 17


def lamp(rng: Random, x: Number, z: Number, over: int) -> Item:
    """Returns a street lamp with an arm to the left (over = -1) or right (1)."""
    height, reach = rng.uniform(6, 9), rng.uniform(0.8, 2.2)
    metal = rng.color(*METALS)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        color = view.seen(metal, z, sunlit, (-over, 0, 0))
        end = (x + over * reach, height + 0.25, z)
        foot, top = (x, 0, z), (x, height, z)
        shapes = [bar(view, foot, top, 0.14), bar(view, foot, (x, 1.2, z), 0.2)]
        shapes.append(bar(view, top, end, 0.09))
        canvas.fill(shapes, color, POLE, tilt=(0.5 * view.weather.sun_direction[0], 0))
        head = panel(view, end, (0.7, 0.14))
        canvas.fill([head], color * 0.8, POLE)
        if view.weather.dark:
            glow = panel(view, (end[0], end[1] - 0.09, z), (0.5, 0.08))
            canvas.fill([glow], np.array([1.0, 0.9, 0.65]))

    return post_item(x, z, height, draw, overhang=reach + 0.5)


def bollard(rng: Random, x: Number, z: Number) -> Item:
    """Returns a short post."""
    metal = rng.color(*METALS, (0.55, 0.2, 0.18))

    def draw(canvas: Canvas, view: View, sunlit: bool):
        color = view.seen(metal, z, sunlit)
        canvas.fill([bar(view, (x, 0, z), (x, 0.95, z), 0.14)], color, POLE, tilt=(0.6, 0))
        canvas.fill([bar(view, (x, 0.7, z), (x, 0.82, z), 0.14)], color * 0.3 + 0.6)

    return post_item(x, z, 0.95, draw, width=0.14)


def barrier(
    rng: Random, start: tuple[Number, Number], end: tuple[Number, Number], *, solid: bool
) -> Item:
    """Returns a wall (solid) or a fence between two points (x, z) of the plan, far to near."""
    height = rng.uniform(0.8, 2.0) if solid else rng.uniform(0.9, 1.5)
    color = (
        rng.color((0.60, 0.57, 0.52), (0.55, 0.36, 0.29), (0.72, 0.70, 0.66), (0.45, 0.45, 0.44))
        if solid
        else rng.color((0.40, 0.29, 0.20), (0.25, 0.27, 0.26), (0.66, 0.65, 0.62))
    )
    gap = rng.choose((0.12, 0.16, 0.3))
    (left, right), (near, far) = (sorted(pair) for pair in zip(start, end, strict=True))
    footprint: Footprint = (left - 0.1, right + 0.1, near, far)
    normal = (0.0, 0.0, -1.0) if start[1] == end[1] else (-1.0 if start[0] > 0 else 1.0, 0.0, 0.0)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        count = max(1, int(abs(end[1] - start[1]) / 8))
        for k in range(count):
            points = [
                (start[0] + (end[0] - start[0]) * t, start[1] + (end[1] - start[1]) * t)
                for t in (k / count, (k + 1) / count)
            ]
            if min(z for _, z in points) > 1.5:
                lit = view.lit(color, normal, sunlit)
                draw_barrier(canvas, view, points, lit, height, None if solid else gap)

    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, height),))


def draw_barrier(
    canvas: Canvas,
    view: View,
    line: list[tuple[Number, Number]],
    color: Color,
    height: Number,
    gap: Number | None,
):
    """Draws a straight piece of a fence with bars `gap` apart, or of a wall if that is None."""
    plane = upright(view, line[0], line[1], height)
    if plane is None:
        return
    u, v, du, dv = plane.u, plane.v, plane.du, plane.dv
    opacity: Float[np.ndarray, "h w"] = np.ones(v.shape)
    stain = 1 + 0.2 * noise(u * 8, v * 8) + 0.12 * noise(u * 40, v * 40, fine=True)
    if gap is None:
        stain = stain - 0.2 * stripes(v, dv, 0.4, 0, 0.03) + 0.2 * (v > height - 0.12)
    else:
        bars = stripes(u, du, gap, 0, 0.06) + stripes(u, du, 2.4, 0, 0.14)
        rails = stripes(v, dv, height - 0.3, 0.1, 0.18)
        opacity = (bars + rails).clip(0, 1)
    haze = np.broadcast_to(view.haziness(plane.z), v.shape)
    canvas.paint(plane.patch, mix(color * stain[..., None], view.weather.horizon, haze), opacity)
    canvas.claim(plane.patch, WALL if gap is None else FENCE)


def static_thing(rng: Random, x: Number, z: Number) -> Item:
    """Returns a bin, a switch box, a bench, an advertising column: void, label "static"."""
    kind = rng.choose(("bin", "bin", "box", "box", "bench", "column"))
    sizes = {"bin": (0.55, 0.95), "box": (0.9, 1.25), "bench": (1.7, 0.85), "column": (1.25, 3.1)}
    width, height = sizes[kind]
    color = rng.color((0.30, 0.34, 0.30), (0.50, 0.50, 0.47), (0.36, 0.26, 0.18), (0.2, 0.22, 0.26))
    posters = [rng.color((0.8, 0.5, 0.3), (0.4, 0.6, 0.8), (0.9, 0.9, 0.8)) for _ in range(3)]
    footprint = (x - width / 2, x + width / 2, z - 0.3, z + 0.3)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        shade = view.seen(color, z, sunlit)
        tilt = (0.5 * view.weather.sun_direction[0], 0.1)
        if kind == "bench":
            seat = [panel(view, (x, y, z), (width, h)) for y, h in ((0.45, 0.08), (0.75, 0.2))]
            legs = [bar(view, (x + dx, 0, z), (x + dx, 0.8, z), 0.08) for dx in (-0.7, 0.7)]
            canvas.outline([panel(view, (x, 0.43, z), (width, 0.85))], STATIC)
            canvas.fill(seat + legs, shade, STATIC, tilt=tilt)
            return
        canvas.fill([panel(view, (x, height / 2, z), (width, height))], shade, STATIC, tilt=tilt)
        left, right = x - width / 2, x + width / 2
        top = [(left, height, z), (right, height, z)]
        top += [(right, height, z + 0.5), (left, height, z + 0.5)]
        if height < view.height:
            canvas.fill([view.project_plan(top)], shade * 1.3, STATIC)
        if kind == "column":
            for k, poster in enumerate(posters):
                lit = view.seen(poster, z, sunlit)
                place = (x - 0.3 + 0.33 * k, 1.4 + 0.2 * (k % 2), z - 0.01)
                canvas.fill([panel(view, place, (0.3, 0.9))], lit, tilt=tilt)
        else:
            slot = panel(view, (x, height * 0.8, z - 0.01), (width * 0.8, 0.06))
            canvas.fill([slot], shade * 0.5)

    return Item(
        footprint=footprint, draw=draw, shadow=(box_points(footprint, height),), contact=True
    )


def dynamic_thing(rng: Random, x: Number, z: Number) -> Item:
    """Returns a pram, a suitcase or a dog: void, label "dynamic"."""
    kind = rng.choose(("pram", "suitcase", "dog"))
    color = rng.color((0.3, 0.2, 0.15), (0.25, 0.3, 0.45), (0.6, 0.5, 0.4), (0.15, 0.15, 0.15))

    def draw(canvas: Canvas, view: View, sunlit: bool):
        shade = view.seen(color, z, sunlit, (0, 0.3, -0.9))
        if kind == "suitcase":
            shapes = [panel(view, (x, 0.33, z), (0.42, 0.62))]
            shapes += [bar(view, (x + dx, 0.6, z), (x + dx, 1.0, z), 0.03) for dx in (-0.1, 0.1)]
        elif kind == "pram":
            shapes = [
                disc(view, (x, 0.8, z), 0.33, 12),
                panel(view, (x + 0.1, 0.65, z), (0.8, 0.3)),
            ]
            shapes.append(bar(view, (x + 0.3, 0.6, z), (x + 0.65, 1.05, z), 0.05))
            wheels = [disc(view, (x + dx, 0.2, z), 0.19, 12) for dx in (-0.25, 0.35)]
            canvas.fill(wheels, shade * 0.4, DYNAMIC)
        else:
            legs = [x + dx for dx in (-0.27, -0.18, 0.17, 0.27)]
            shapes = [bar(view, (leg, 0, z), (leg, 0.4, z), 0.07) for leg in legs]
            shapes += [panel(view, (x, 0.45, z), (0.62, 0.24))]
            shapes += [disc(view, (x + 0.4, 0.6, z), 0.13, 10)]
            shapes += [bar(view, (x - 0.3, 0.5, z), (x - 0.5, 0.7, z), 0.05)]
        canvas.fill(shapes, shade, DYNAMIC, tilt=(0.3 * view.weather.sun_direction[0], -0.4))

    footprint = (x - 0.35, x + 0.35, z - 0.2, z + 0.2)
    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, 0.8),), contact=True)
