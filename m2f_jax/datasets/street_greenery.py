"""Trees, bushes and hedges."""

import numpy as np
from jaxtyping import Float

from m2f_jax.datasets.street_canvas import Canvas, Colour, Polygon, rasterise
from m2f_jax.datasets.street_dice import Dice
from m2f_jax.datasets.street_stage import Footprint, Item, box_points
from m2f_jax.datasets.street_texture import noise
from m2f_jax.datasets.street_view import View

VEGETATION = 21
LEAVES = (
    (0.24, 0.33, 0.13), (0.19, 0.28, 0.13), (0.30, 0.36, 0.15), (0.33, 0.35, 0.19),
    (0.46, 0.36, 0.15), (0.22, 0.30, 0.18),
)  # fmt: skip
CORNERS = 9  # of a bunch of leaves


def random_leaves(dice: Dice) -> Colour:
    """Green, or autumnal."""
    return dice.colour(*LEAVES, spread=0.05)


def tree(dice: Dice, x: float, z: float, leaves: Colour, height: float) -> Item:
    """A tree with a trunk."""
    seed = dice.whole(0, 2**31)
    trunk = height * dice.uniform(0.22, 0.38)
    width = (height - trunk) * dice.uniform(0.34, 0.55)
    bark = dice.colour((0.27, 0.22, 0.18), (0.35, 0.32, 0.28))
    thickness = 0.02 * height + 0.03
    crown: Footprint = (x - width * 0.7, x + width * 0.7, z - width * 0.7, z + width * 0.7)

    def draw(canvas: Canvas, view: View, sunlit: bool):
        colour = view.hazy(view.lit(bark, (0, 0, -1), sunlit), z)
        outline = [(x - thickness * 1.3, 0, z), (x - thickness * 0.7, trunk * 1.4, z),
                   (x + thickness * 0.7, trunk * 1.4, z), (x + thickness * 1.3, 0, z)]  # fmt: skip
        tilt = (0.8 * view.weather.sun_direction[0], 0.2)
        canvas.fill([view.project_plan(outline)], colour, VEGETATION, tilt=tilt)
        middle = (trunk + height) / 2
        bunches = Dice(seed)
        count = 9
        turns = bunches.fractions(count) * 2 * np.pi
        reach = 0.35 + 0.35 * bunches.fractions(count)
        radii = (0.5 + 0.25 * bunches.fractions(count))
        lobes = np.stack(
            [x + width * reach * np.cos(turns) * 0.9,
             middle + (height - trunk) / 2 * reach * np.sin(turns) * 0.9,
             width * radii], axis=1
        )  # fmt: skip
        lobes = np.concatenate([lobes, [[x, middle, width * 0.75]]])
        draw_foliage(canvas, view, lobes, z, leaves, bunches, sunlit)

    foot = (x - thickness, x + thickness, z - thickness, z + thickness)
    shadow = box_points(crown, height * 0.9, base=trunk)
    return Item(
        footprint=(foot[0] - 0.2, foot[1] + 0.2, foot[2] - 0.2, foot[3] + 0.2),
        draw=draw,
        shadow=(shadow, box_points(foot, trunk * 1.5)),
    )


def bush(dice: Dice, x: float, z: float, leaves: Colour, size: float) -> Item:
    """A bush."""
    return hedge(dice, (x - size / 2, x + size / 2, z - size / 2, z + size / 2), leaves, size)


def hedge(dice: Dice, footprint: Footprint, leaves: Colour, height: float) -> Item:
    """Bushes in a row; a footprint longer in z runs along the street."""
    seed = dice.whole(0, 2**31)
    left, right, near, far = footprint

    def draw(canvas: Canvas, view: View, sunlit: bool):
        bunches = Dice(seed)
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

    return Item(footprint=footprint, draw=draw, shadow=(box_points(footprint, height),),
                contact=True)  # fmt: skip


def draw_foliage(
    canvas: Canvas,
    view: View,
    lobes: Float[np.ndarray, "n 3"],
    z: float,
    leaves: Colour,
    dice: Dice,
    sunlit: bool,
    low: float | None = None,
):
    """Balls of leaves (x, y, radius) in the plane at z, brighter where the light falls.

    Args:
        canvas: to draw on.
        view: the camera and the light.
        lobes: the balls.
        z: how far away all of them are.
        leaves: their colour.
        dice: for where the single leaves are.
        sunlit: whether the sun reaches them.
        low: the height that nothing goes below.
    """
    scale = view.scale(z)
    centres = view.project_plan(np.stack([lobes[:, 0], lobes[:, 1], 0 * lobes[:, 0] + z], axis=1))
    sizes = lobes[:, 2] * scale
    ground = view.project_plan([(0, low or 0, z)])[0, 1]
    outline = bunches_of_leaves(centres, sizes, dice, rough=0.16)
    # Little bunches along the rim make it ragged.
    rim = scatter(centres, sizes, 14 if sizes.max() > 12 else 4, dice, inner=0.85)
    small = np.concatenate([0.16 + 0.14 * dice.fractions(len(rim))]) * sizes.mean()
    outline += bunches_of_leaves(rim, small, dice, rough=0.3)
    if low is not None:
        outline = [np.stack([p[:, 0], p[:, 1].clip(None, ground)], axis=1) for p in outline]
    patch = rasterise(outline, view.size)
    if patch is None:
        return
    sun_x, sun_y, _ = view.weather.sun_direction
    dark = view.lit(leaves * 0.62, (0, 0, 0), sunlit=False)
    bright = view.lit(leaves * 1.25, (sun_x * 0.3, sun_y * 0.3 + 0.7, 0), sunlit)
    middle = (dark + bright) / 2
    dark, middle, bright = (view.hazy(colour, z) for colour in (dark, middle, bright))
    unit = 0.035 * scale
    texture = noise(patch.columns / unit, patch.rows / unit, fine=True)
    canvas.paint(patch, dark * (1 + 0.45 * texture[..., None]))
    canvas.claim(patch, VEGETATION)
    if sizes.max() < 3:
        return
    towards = np.array([sun_x, -abs(sun_y) - 0.5]) * 0.28
    count = int(min(26, 6 + sizes.max() / 4))
    for colour, shift, share in ((middle, 0.5, 1.0), (bright, 1.0, 0.6)):
        at = scatter(centres, sizes, int(count * share), dice, inner=0.0)
        at = at + np.repeat(sizes, int(count * share))[:, None] * towards * shift
        radii = sizes.mean() * (0.09 + 0.13 * dice.fractions(len(at)))
        shapes = bunches_of_leaves(at, radii, dice, rough=0.4)
        if light := rasterise(shapes, view.size):
            grain = noise(light.columns / unit, light.rows / unit, fine=True)
            covered = within(patch.alpha, (patch.top, patch.left), light.alpha.shape,
                             (light.top, light.left))  # fmt: skip
            canvas.paint(light, colour * (1 + 0.4 * grain[..., None]), 0.75 * covered)


def within(
    alpha: Float[np.ndarray, "h w"],
    corner: tuple[int, int],
    size: tuple[int, ...],
    at: tuple[int, int],
) -> Float[np.ndarray, "h2 w2"]:
    """Another window on the same coverage; 0 outside."""
    result = np.zeros(size)
    top, left = max(corner[0], at[0]), max(corner[1], at[1])
    bottom = min(corner[0] + alpha.shape[0], at[0] + size[0])
    right = min(corner[1] + alpha.shape[1], at[1] + size[1])
    if bottom > top and right > left:
        result[top - at[0] : bottom - at[0], left - at[1] : right - at[1]] = alpha[
            top - corner[0] : bottom - corner[0], left - corner[1] : right - corner[1]
        ]
    return result


def scatter(
    centres: Float[np.ndarray, "n 2"],
    sizes: Float[np.ndarray, "n"],
    count: int,
    dice: Dice,
    inner: float,
) -> Float[np.ndarray, "m 2"]:
    """Points in every circle, or near its rim."""
    turns = dice.fractions(len(centres), count) * 2 * np.pi
    reach = np.sqrt(inner**2 + (1 - inner**2) * dice.fractions(len(centres), count)) * 0.95
    offsets = np.stack([np.cos(turns), np.sin(turns)], axis=-1) * reach[..., None]
    return (centres[:, None] + offsets * sizes[:, None, None]).reshape(-1, 2)


def bunches_of_leaves(
    centres: Float[np.ndarray, "n 2"], radii: Float[np.ndarray, "n"], dice: Dice, rough: float
) -> list[Polygon]:
    """Round shapes with rough edges."""
    turns = np.linspace(0, 2 * np.pi, CORNERS, endpoint=False)
    circle = np.stack([np.cos(turns), np.sin(turns)], axis=1)
    edges = 1 + rough * (dice.fractions(len(centres), CORNERS, 1) * 2 - 1)
    return list(centres[:, None] + circle * edges * radii[:, None, None])
