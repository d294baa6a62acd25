"""Things that stand on the ground of a street scene, and the order in which they hide each other."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from m2f_jax.datasets.street_canvas import Canvas
from m2f_jax.datasets.street_view import Points, View

Footprint = tuple[float, float, float, float]  # left, right, near, far, in metres of the plan


@dataclass(frozen=True, kw_only=True)
class Item:
    """One thing: where it stands, how it is drawn, and what throws its shadow."""

    footprint: Footprint
    draw: Callable[[Canvas, View, bool], None]
    """Draws it; the last argument says whether the sun shines on it."""
    shadow: tuple[Points, ...] = ()
    """Points of convex bodies of the plan."""
    contact: bool = False
    """Whether it darkens the ground that it stands on."""


def box_points(footprint: Footprint, height: float, base: float = 0.0) -> Points:
    """The corners of a box over a footprint."""
    left, right, near, far = footprint
    return np.array(
        [(x, y, z) for x in (left, right) for y in (base, height) for z in (near, far)], float
    )


def drawing_order(footprints: Sequence[Footprint]) -> list[int]:
    """Indices such that nothing is drawn before what is behind it."""
    count = len(footprints)
    behind = np.zeros((count, count), bool)  # [i, j]: i must be drawn before j
    for i in range(count):
        for j in range(i):
            j_hides = hides(footprints[j], footprints[i])
            behind[i, j], behind[j, i] = j_hides, not j_hides
    far = np.array([footprint[3] for footprint in footprints])
    order: list[int] = []
    left = np.ones(count, bool)
    while left.any():
        waiting: Bool[np.ndarray, "count"] = left & ~behind[left].any(axis=0)
        # Three may hide each other in a circle; then the farthest goes first.
        candidates = np.flatnonzero(waiting if waiting.any() else left)
        chosen = int(candidates[far[candidates].argmax()])
        order.append(chosen)
        left[chosen] = False
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
