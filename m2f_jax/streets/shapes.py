"""Simple shapes in a street scene: bars, and discs and panels that face the camera."""

import numpy as np

from m2f_jax.streets.canvas import Polygon
from m2f_jax.streets.dice import Number
from m2f_jax.streets.stage import Drawing, Item, box_points
from m2f_jax.streets.view import View

METALS = ((0.45, 0.46, 0.46), (0.30, 0.32, 0.32), (0.24, 0.30, 0.27), (0.58, 0.58, 0.57))


def bar(
    view: View,
    start: tuple[Number, Number, Number],
    end: tuple[Number, Number, Number],
    width: Number,
) -> Polygon:
    """A bar between two points as seen from anywhere, as pixels."""
    ends = view.project_plan([start, end])
    along = ends[1] - ends[0]
    across = np.array([-along[1], along[0]]) / max(float(np.hypot(*along)), 1e-6) * width / 2
    first, second = across * view.scale(start[2]), across * view.scale(end[2])
    return np.stack([ends[0] - first, ends[0] + first, ends[1] + second, ends[1] - second])


def disc(
    view: View, centre: tuple[Number, Number, Number], radius: Number, corners: int
) -> Polygon:
    """A regular polygon that faces the camera; three corners stand on their base."""
    turns = (np.arange(corners) + (0.5 if corners % 2 == 0 else 0.0)) / corners * 2 * np.pi
    around = np.stack([np.sin(turns), -np.cos(turns)], axis=1)
    return view.project_plan([centre]) + around * radius * view.scale(centre[2])


def panel(
    view: View, centre: tuple[Number, Number, Number], size: tuple[Number, Number]
) -> Polygon:
    """A rectangle that faces the camera; its size is width and height."""
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
    """An item that stands on a thin post."""
    footprint = (x - width / 2, x + width / 2, z - width / 2, z + width / 2)
    return Item(
        footprint=footprint, draw=draw, shadow=(box_points(footprint, height),), overhang=overhang
    )
