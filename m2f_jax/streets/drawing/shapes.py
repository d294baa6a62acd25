"""Simple shapes in a street scene: bars, discs and panels that face the camera, upright planes."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.canvas import Patch, Polygon, rasterise
from m2f_jax.streets.drawing.randomness import Number
from m2f_jax.streets.drawing.stage import Drawing, Item, box_points
from m2f_jax.streets.drawing.view import View

METALS = ((0.45, 0.46, 0.46), (0.30, 0.32, 0.32), (0.24, 0.30, 0.27), (0.58, 0.58, 0.57))


def bar(
    view: View,
    start: tuple[Number, Number, Number],
    end: tuple[Number, Number, Number],
    width: Number,
) -> Polygon:
    """Returns the pixels of a bar between two points, which looks alike from all sides."""
    ends = view.project_plan([start, end])
    along = ends[1] - ends[0]
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6) * width / 2
    first, second = across * view.scale(start[2]), across * view.scale(end[2])
    return np.stack([ends[0] - first, ends[0] + first, ends[1] + second, ends[1] - second])


def disc(
    view: View, centre: tuple[Number, Number, Number], radius: Number, corners: int
) -> Polygon:
    """Returns a regular polygon that faces the camera; three corners stand on their base."""
    turns = (np.arange(corners) + (0.5 if corners % 2 == 0 else 0.0)) / corners * 2 * np.pi
    around = np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    return view.project_plan([centre]) + around * radius * view.scale(centre[2])


def panel(
    view: View, centre: tuple[Number, Number, Number], size: tuple[Number, Number]
) -> Polygon:
    """Returns a rectangle that faces the camera; its size is width and height."""
    x, y, z = centre
    width, height = size[0] / 2, size[1] / 2
    return view.project_plan(
        [
            (x - width, y - height, z),
            (x - width, y + height, z),
            (x + width, y + height, z),
            (x + width, y - height, z),
        ]
    )


def post_item(
    x: Number,
    z: Number,
    height: Number,
    draw: Drawing,
    width: Number = 0.12,
    overhang: Number = 0.5,
) -> Item:
    """Returns an item that stands on a thin post."""
    footprint = (x - width / 2, x + width / 2, z - width / 2, z + width / 2)
    return Item(
        footprint=footprint, draw=draw, shadow=(box_points(footprint, height),), overhang=overhang
    )


@dataclass(frozen=True, kw_only=True)
class Plane:
    """An upright rectangle, and where each pixel of its patch lies on it, in metres."""

    patch: Patch
    u: Float[np.ndarray, "1 w"]
    """The distance along it from its start."""
    v: Float[np.ndarray, "h w"]
    """The height above the ground."""
    du: Float[np.ndarray, "1 w"]
    """The length of a pixel along it."""
    dv: Float[np.ndarray, "1 w"]
    """The height of a pixel."""
    z: Float[np.ndarray, "1 w"]
    """The distance from the camera."""
    length: Number


def upright(
    view: View, start: tuple[Number, Number], end: tuple[Number, Number], height: Number
) -> Plane | None:
    """Returns the rectangle over a line between points (x, z) of the plan, if it is seen."""
    (x0, z0), (x1, z1) = start, end
    x0, x1 = x0 + view.bend * z0**2, x1 + view.bend * z1**2
    corners = [(x0, 0, z0), (x1, 0, z1), (x1, height, z1), (x0, height, z0)]
    patch = rasterise([view.project(np.array(corners, float))], view.size)
    if patch is None:
        return None
    # From 0 to 1 along it, where the line of sight through a column of pixels meets it.
    slope = (patch.columns - view.centre_x) / view.focal
    across = (x1 - x0) - slope * (z1 - z0)
    t = ((slope * z0 - x0) / np.where(np.abs(across) < 1e-6, 1e-6, across)).clip(0, 1)
    z = z0 + t * (z1 - z0)
    dv = z / view.focal
    v = view.height + (view.centre_y - patch.rows) * dv
    length = float(np.hypot(x1 - x0, z1 - z0))
    u = t * length
    du = np.abs(np.gradient(u[0]))[None].clip(1e-3) if u.shape[1] > 1 else dv
    u, v, du, dv, z = (values.astype(np.float32) for values in (u, v, du, dv, z))
    return Plane(patch=patch, u=u, v=v, du=du, dv=dv, z=z, length=length)
