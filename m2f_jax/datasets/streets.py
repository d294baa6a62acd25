"""Street scenes, drawn."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32, UInt8

from m2f_jax.datasets.street_canvas import Canvas, inside
from m2f_jax.datasets.street_dice import Dice
from m2f_jax.datasets.street_ground import draw_ground, draw_shadows, draw_sky
from m2f_jax.datasets.street_plan import plan_street
from m2f_jax.datasets.street_sensor import add_frame, draw_own_car, photograph
from m2f_jax.datasets.street_stage import drawing_order
from m2f_jax.datasets.street_surroundings import surroundings
from m2f_jax.datasets.street_traffic import traffic
from m2f_jax.datasets.street_view import random_view
from m2f_jax.datasets.street_canvas import convex_hull
FEWEST = 25

@dataclass(frozen=True)
class StreetScene:
    image: UInt8[np.ndarray, "H W 3"]
    instance_ids: Int32[np.ndarray, "H W"]

def street_scene(seed: int, index: int, size: tuple[int, int] = (512, 1024)) -> StreetScene:
    view = random_view(Dice(seed, index, 0), size)
    street = plan_street(Dice(seed, index, 1))
    backdrop = surroundings(Dice(seed, index, 2), street)
    moving = traffic(Dice(seed, index, 3), street)
    items = backdrop + moving
    canvas = Canvas(size)
    draw_sky(canvas, view, Dice(seed, index, 4))
    draw_ground(canvas, view, street, Dice(seed, index, 5))
    cast = [points for item in items for points in item.shadow]
    contact = [item.footprint for item in items if item.contact]
    draw_shadows(canvas, view, cast, contact)
    shadows = [convex_hull(view.shadow_of(p)[:, [0, 2]]) for item in backdrop for p in item.shadow]
    for i in drawing_order([item.footprint for item in items]):
        item = items[i]
        left, right, near, far = item.footprint
        x, z = (left + right) / 2, (near + far) / 2
        sunlit = item in backdrop or not any(bool(inside(s, x, z)) for s in shadows)
        item.draw(canvas, view, sunlit)
    draw_own_car(canvas, view, Dice(seed, index, 6))
    add_frame(canvas, Dice(seed, index, 7))
    ids = canvas.instance_ids(FEWEST)
    return StreetScene(photograph(canvas, view, Dice(seed, index, 8)), ids)
