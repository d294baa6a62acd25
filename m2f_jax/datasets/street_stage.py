"""Things that stand on the ground of a street scene, and which of them hides which."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from m2f_jax.datasets.street_canvas import Canvas
from m2f_jax.datasets.street_dice import Number
from m2f_jax.datasets.street_view import Points, View

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
    overhang: Number = 0.0
    """How far, in metres, it reaches out over its footprint to the left and right."""


def box_points(footprint: Footprint, height: Number, base: Number = 0.0) -> Points:
    """The corners of a box over a footprint."""
    left, right, near, far = footprint
    return np.array(
        [(x, y, z) for x in (left, right) for y in (base, height) for z in (near, far)], float
    )


def drawing_order(items: Sequence[Item], bend: Number) -> list[int]:
    """Indices such that nothing is drawn before what is behind it.

    Args:
        items: the things.
        bend: of the street; things that don't meet on the screen may be drawn in any order.
    """
    count = len(items)
    footprints = [item.footprint for item in items]
    corners = np.array(footprints)
    depths = corners[:, 2:].clip(1)
    overhang = np.array([item.overhang for item in items])[:, None, None]
    sides = corners[:, :2, None] + overhang * np.array([[-1], [1]])
    slopes = (sides / depths[:, None] + bend * depths[:, None]).reshape(count, 4)
    left, right = slopes.min(axis=1), slopes.max(axis=1)
    meet = (left[:, None] < right) & (left < right[:, None])

    behind = np.zeros((count, count), bool)  # [i, j]: i must be drawn before j
    for i, j in zip(*np.nonzero(np.triu(meet, 1)), strict=True):
        hidden = hides(footprints[j], footprints[i])
        behind[i, j], behind[j, i] = hidden, not hidden
    order: list[int] = []
    blockers = behind.sum(axis=0)
    waiting = np.ones(count, bool)
    while waiting.any():
        ready = waiting & (blockers == 0)
        # A few may hide each other in a circle; then the farthest goes first.
        candidates = np.flatnonzero(ready if ready.any() else waiting)
        chosen = int(candidates[corners[candidates, 3].argmax()])
        order.append(chosen)
        waiting[chosen] = False
        blockers -= behind[chosen]
    return order


def hides(a: Footprint, b: Footprint) -> bool:
    """Whether a may hide b, rather than b hide a, from the camera at 0."""
    if a[3] <= b[2] or b[3] <= a[2]:  # one is wholly nearer
        return a[3] <= b[2]
    if a[0] >= b[1]:  # a is to the right of b, so the one on the side of the camera is in front
        return a[0] + b[1] < 0
    if b[0] >= a[1]:
        return b[0] + a[1] >= 0
    return a[2] + a[3] < b[2] + b[3]
