"""Street scenes with exact labels, drawn by rule: training and test data for machines without any.

A scene has Cityscapes' classes, ids, view and rough frequencies, so that whatever reads, trains on
or evaluates Cityscapes can be tried out: occlusion, truncation, groups and void included.
First comes a plan seen from above (`layout`), then a view of it (`drawing`), painted from far to
near with what stands in the street (`things`).
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8

from m2f_jax.streets.drawing.canvas import Canvas, convex_hull, inside
from m2f_jax.streets.drawing.randomness import Random
from m2f_jax.streets.drawing.sensor import add_frame, draw_own_car, photograph
from m2f_jax.streets.drawing.stage import drawing_order
from m2f_jax.streets.drawing.view import random_view
from m2f_jax.streets.layout.ground import draw_ground, draw_shadows, draw_sky
from m2f_jax.streets.layout.plan import plan_street
from m2f_jax.streets.layout.surroundings import surroundings
from m2f_jax.streets.layout.traffic import traffic

SMALLEST = 128, 256
FEWEST_PIXELS = 25  # an object that shows less is part of its class's group


@dataclass(frozen=True)
class StreetScene:
    """A picture of a street with exact labels."""

    image: UInt8[np.ndarray, "H W 3"]
    instance_ids: Int32[np.ndarray, "H W"]
    """The map *_gtFine_instanceIds.png: class * 1000 + k for objects, else the plain label id."""

    @property
    def label_ids(self) -> UInt8[np.ndarray, "H W"]:
        """The map *_gtFine_labelIds.png: the label id of each pixel."""
        ids = self.instance_ids
        return np.where(ids < 1000, ids, ids // 1000).astype(np.uint8)


def street_scene(seed: int, index: int, size: tuple[int, int] = (512, 1024)) -> StreetScene:
    """Draws one scene of an endless data set.

    Its labels are the same on every platform and with every version of numpy, and so is its image
    but for rounding. A scene of another size is the same street, drawn larger or smaller.

    Args:
        seed: the seed of the data set.
        index: the number of the scene in the data set.
        size: height and width in pixels, from 128 x 256.

    Raises:
        ValueError: the size is too small, or a number is negative.
    """
    check_size(size)
    if seed < 0 or index < 0:
        raise ValueError(f"seed and index of a street scene start at 0; got {seed} and {index}")
    # Each part has a stream of random choices of its own, so none changes the others.
    rngs = [Random(seed, index, part) for part in range(8)]
    view = random_view(rngs[0], size)
    street = plan_street(rngs[1])
    backdrop = surroundings(rngs[2], street)
    items = backdrop + traffic(rngs[3], street)

    canvas = Canvas(size)
    draw_sky(canvas, view, rngs[4])
    draw_ground(canvas, view, street, rngs[5])
    cast = [points for item in items for points in item.shadow]
    draw_shadows(canvas, view, cast, [item.footprint for item in items if item.contact])

    shadows = [view.shadow_of(points)[:, [0, 2]] for item in backdrop for points in item.shadow]
    low, high = (np.array([end(shadow, axis=0) for shadow in shadows]) for end in (np.min, np.max))
    for i in drawing_order(items, view):
        left, right, near, far = items[i].footprint
        x, z = (left + right) / 2, (near + far) / 2
        shaded = i >= len(backdrop) and any(
            inside(convex_hull(shadows[k]), x, z)
            for k in np.flatnonzero(((low < (x, z)) & (high > (x, z))).all(axis=1))
        )
        items[i].draw(canvas, view, not shaded)

    draw_own_car(canvas, view, rngs[6])
    add_frame(canvas, rngs[6])
    return StreetScene(photograph(canvas, view, rngs[7]), canvas.instance_ids(FEWEST_PIXELS))


def check_size(size: tuple[int, int]):
    """Refuses a size that is too small for a scene.

    Raises:
        ValueError: naming the least size.
    """
    if size[0] < SMALLEST[0] or size[1] < SMALLEST[1]:
        raise ValueError(
            f"a street scene has at least {SMALLEST[0]} x {SMALLEST[1]} pixels (height x width); "
            f"got {size[0]} x {size[1]}"
        )
