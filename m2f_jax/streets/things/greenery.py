"""Trees, bushes and hedges."""

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Canvas, Color, Polygon, rasterise
from m2f_jax.streets.drawing.randomness import Number, Random
from m2f_jax.streets.drawing.stage import Footprint, Item, box_points
from m2f_jax.streets.drawing.texture import mix, noise
from m2f_jax.streets.drawing.view import View

VEGETATION = 21
LEAVES = (
    (0.24, 0.33, 0.13), (0.19, 0.28, 0.13), (0.30, 0.36, 0.15), (0.33, 0.35, 0.19),
    (0.46, 0.36, 0.15), (0.22, 0.30, 0.18),
)  # fmt: skip
CORNERS = 9  # of a bunch of leaves


def random_leaves(rng: Random) -> Color:
    """Returns the color of leaves, green or autumnal."""
    return rng.color(*LEAVES, spread=0.05)


def tree(rng: Random, x: Number, z: Number, leaves: Color, height: Number) -> Item:
    """Returns a tree with a trunk."""
    seed = rng.whole(0, 2**31)
    trunk = height * rng.uniform(0.22, 0.38)
    width = (height - trunk) * rng.uniform(0.34, 0.55)
    bark = rng.color((0.27, 0.22, 0.18), (0.35, 0.32, 0.28))
    thickness = 0.02 * height + 0.03
    crown: Footprint = (x - width * 0.7, x + width * 0.7, z - width * 0.7, z + width * 0.7)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        color = view.seen(bark, z, sunlit)
        outline = [(x - thickness * 1.3, 0, z), (x - thickness * 0.7, trunk * 1.4, z)]
        outline += [(x + thickness * 0.7, trunk * 1.4, z), (x + thickness * 1.3, 0, z)]
        tilt = (0.8 * view.weather.sun_direction[0], 0.2)
        canvas.fill([view.project_plan(outline)], color, VEGETATION, tilt=tilt)
        middle = (trunk + height) / 2
        bunches = Random(seed)
        count = 9
        turns = bunches.fractions(count) * 2 * np.pi
        reach = 0.32 + 0.32 * bunches.fractions(count)
        across = x + width * reach * np.cos(turns)
        up = middle + (height - trunk) / 2 * reach * np.sin(turns)
        lobes = np.stack([across, up, width * (0.5 + 0.25 * bunches.fractions(count))], axis=1)
        lobes = np.concatenate([lobes, [[x, middle, width * 0.75]]])
        draw_foliage(canvas, view, lobes, z, leaves, bunches, sunlit)

    foot = (x - thickness, x + thickness, z - thickness, z + thickness)
    shadow = box_points(crown, height * 0.9, base=trunk)
    return Item(
        footprint=(foot[0] - 0.2, foot[1] + 0.2, foot[2] - 0.2, foot[3] + 0.2),
        draw=draw,
        shadow=(shadow, box_points(foot, trunk * 1.5)),
        overhang=width * 1.5,
    )


def bush(rng: Random, x: Number, z: Number, leaves: Color, size: Number) -> Item:
    """Returns a bush."""
    return hedge(rng, (x - size / 2, x + size / 2, z - size / 2, z + size / 2), leaves, size)


def hedge(rng: Random, footprint: Footprint, leaves: Color, height: Number) -> Item:
    """Returns bushes in a row; a footprint longer in z runs along the street."""
    seed = rng.whole(0, 2**31)
    left, right, near, far = footprint

    def draw(canvas: Canvas, view: View, sunlit: bool):
        bunches = Random(seed)
        step = max(0.5 * height, 0.4)
        steps = max(int(max(far - near, right - left) / step), 1)
        for k in range(steps, -1, -1):
            z = near + (far - near) * k / steps
            if z < 1.5:
                continue
            middle = (left + right) / 2
            xs = [left, middle, right] if right - left > far - near else [middle]
            lobes = [
                (x + height * bunches.uniform(-0.1, 0.1), height * y, height * size)
                for x in xs
                for y, size in ((0.25, 0.36), (0.62, bunches.uniform(0.33, 0.42)))
            ]
            draw_foliage(canvas, view, np.array(lobes), z, leaves, bunches, sunlit, low=0.0)

    shadow = (box_points(footprint, height),)
    return Item(
        footprint=footprint, draw=draw, shadow=shadow, contact=True, overhang=0.5 * height + 0.3
    )


def draw_foliage(
    canvas: Canvas,
    view: View,
    lobes: Float[np.ndarray, "n 3"],
    z: Number,
    leaves: Color,
    rng: Random,
    sunlit: bool,
    low: Number | None = None,
):
    """Draws balls of leaves (x, y, radius) in the plane at z, brighter where the light falls.

    Args:
        canvas: to draw on.
        view: the camera and the light.
        lobes: the balls.
        z: how far away all of them are.
        leaves: their color.
        rng: chooses where the single leaves are.
        sunlit: whether the sun reaches them.
        low: the height that nothing goes below.
    """
    scale = view.scale(z)
    centres = view.project_plan(np.stack([lobes[:, 0], lobes[:, 1], 0 * lobes[:, 0] + z], axis=1))
    sizes = lobes[:, 2] * scale
    low_corner, high_corner = (centres - 1.4 * sizes[:, None]), (centres + 1.4 * sizes[:, None])
    if (high_corner.max(axis=0) < 0).any() or (low_corner.min(axis=0) > view.size[::-1]).any():
        return
    ground = view.project_plan([(0, low or 0, z)])[0, 1]
    sun_x, sun_y, _ = view.weather.sun_direction
    dark = view.seen(leaves * 0.58, z, False, (0, 0, 0))
    bright = view.seen(leaves * 1.30, z, sunlit, (sun_x * 0.4, sun_y * 0.4 + 0.6, 0))
    unit = max(0.035 * scale, 1.0)  # pixels; finer details than a pixel would be mere noise
    grain = min(unit, view.size[1] / 700 + 0.5)
    shift = 512 * rng.fractions(2)
    # The light comes from above, so lower balls are under higher ones; small ones are as one.
    large = sizes.max() > 7
    order = np.argsort(-centres[:, 1].round(3), kind="stable")
    for ball in order[:, None] if large else order[None]:
        leafy = 15 if large else 2
        rim = scatter(centres[ball], sizes[ball], leafy, rng, inner=0.85)
        small = (0.08 + 0.14 * rng.fractions(len(rim))) * sizes[ball].max()
        outline = bunches_of_leaves(centres[ball], sizes[ball] * 0.95, rng, rough=0.14)
        outline += bunches_of_leaves(rim, small, rng, rough=0.3)
        centre = centres[ball].mean(axis=0)
        size = float(np.ptp(centres[ball][:, 1]) / 2 + sizes[ball].mean())
        if low is not None:
            for polygon in outline:
                polygon[:, 1] = polygon[:, 1].clip(None, ground)
        patch = rasterise(outline, view.size)
        if patch is None:
            continue
        x, y = patch.columns, patch.rows
        towards_light = 0.45 * sun_x * (x - centre[0]) / size - 0.8 * (y - centre[1]) / size
        clumps = noise(x / unit * 3 + shift[0], y / unit * 3 + shift[1])
        single = noise(x / grain + shift[1], y / grain + shift[0], fine=True)
        light = (0.48 + 0.34 * towards_light + 0.55 * clumps + 0.22 * single).clip(0, 1.2)
        canvas.paint(patch, mix(dark, bright, light.astype(np.float32)))
        canvas.claim(patch, VEGETATION)


def scatter(
    centres: Float[np.ndarray, "n 2"],
    sizes: Float[np.ndarray, "n"],
    count: int,
    rng: Random,
    inner: Number,
) -> Float[np.ndarray, "m 2"]:
    """Returns points in every circle, or near its rim."""
    turns = rng.fractions(len(centres), count) * 2 * np.pi
    reach = np.sqrt(inner**2 + (1 - inner**2) * rng.fractions(len(centres), count)) * 0.95
    offsets = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * reach[..., None]
    return (centres[:, None] + offsets * sizes[:, None, None]).reshape(-1, 2)


def bunches_of_leaves(
    centres: Float[np.ndarray, "n 2"], radii: Float[np.ndarray, "n"], rng: Random, rough: Number
) -> list[Polygon]:
    """Returns round shapes with rough edges."""
    turns = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    edges = 1 + rough * (rng.fractions(len(centres), CORNERS, 1) * 2 - 1)
    return list(centres[:, None] + circle * edges * radii[:, None, None])
