"""Things that stand on the ground of a street scene, and which of them hides which."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from m2f_jax.streets.drawing.canvas import Canvas
from m2f_jax.streets.drawing.randomness import Number
from m2f_jax.streets.drawing.view import Points, View

Footprint = tuple[Number, Number, Number, Number]  # left, right, near, far, in metres of the plan
Drawing = Callable[[Canvas, View, bool], None]  # the last one says whether the sun shines on it


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing: where it stands, how it is drawn, and what throws its shadow."""

    footprint: Footprint
    draw: Drawing
    shadow: tuple[Points, ...] = ()
    """Points of convex bodies of the plan."""
    contact: bool = False
    """Whether it darkens the ground that it stands on."""
    overhang: Number = 0.3
    """How far, in metres, it reaches out over its footprint to the left and right."""


def box_points(footprint: Footprint, height: Number, base: Number = 0.0) -> Points:
    """Returns the corners of a box over a footprint."""
    left, right, near, far = footprint
    return np.array(
        [(x, y, z) for x in (left, right) for y in (base, height) for z in (near, far)], float
    )


def drawing_order(items: Sequence[Item], view: View) -> list[int]:
    """Returns indices of the items in view, each after those that are behind it."""
    corners = np.array([item.footprint for item in items], float)
    depths = corners[:, None, 2:].clip(1)
    overhang = np.array([item.overhang for item in items])[:, None, None]
    sides = corners[:, :2, None] + overhang * np.array([[-1], [1]])
    columns = view.centre_x + view.focal * (sides / depths + view.bend * depths)
    left, right = columns.min(axis=(1, 2)), columns.max(axis=(1, 2))
    waiting = (left < view.size[1]) & (right > 0) & (corners[:, 3] > 1)
    # Only what meets on the screen has to be in order.
    meet = (left[:, None] < right) & (left < right[:, None]) & waiting[:, None] & waiting
    before = np.triu(nearer(corners), 1)
    before |= np.triu(~before, 1).T
    behind = meet & before.T  # [i, j]: i must be drawn before j
    order: list[int] = []
    blockers = behind.sum(axis=0)
    while waiting.any():
        ready = waiting & (blockers == 0)
        # A few may hide each other in a circle; then the farthest goes first.
        candidates = np.flatnonzero(ready if ready.any() else waiting)
        chosen = int(candidates[corners[candidates, 3].argmax()])
        order.append(chosen)
        waiting[chosen] = False
        blockers -= behind[chosen]
    return order


def nearer(footprints: Float[np.ndarray, "n 4"]) -> Bool[np.ndarray, "n n"]:
    """Returns True at [i, j] if i may hide j, not j hide i, from the camera at x = 0."""
    left, right, near, far = footprints.T[:, :, None]
    others_left, others_right, others_near, others_far = footprints.T[:, None, :]
    return np.select(
        [
            (far <= others_near) | (others_far <= near),  # one is wholly nearer
            left >= others_right,  # what is on the camera's side of a line between them is in front
            others_left >= right,
        ],
        [far <= others_near, left + others_right < 0, others_left + right >= 0],
        near + far < others_near + others_far,
    )
