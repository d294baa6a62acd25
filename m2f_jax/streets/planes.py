"""Upright planes in a street scene, such as facades and fences."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.canvas import Patch, rasterise
from m2f_jax.streets.dice import Number
from m2f_jax.streets.view import View


@dataclass(frozen=True, kw_only=True)
class Plane:
    """Where the pixels of a patch are on an upright rectangle, in metres."""

    patch: Patch
    u: Float[np.ndarray, "1 w"]
    """Along it from its start."""
    v: Float[np.ndarray, "h w"]
    """Above the ground."""
    du: Float[np.ndarray, "1 w"]
    """How long a pixel is along it."""
    dv: Float[np.ndarray, "1 w"]
    """How high a pixel is."""
    z: Float[np.ndarray, "1 w"]
    """How far away it is."""
    length: Number


def upright(
    view: View, start: tuple[Number, Number], end: tuple[Number, Number], height: Number
) -> Plane | None:
    """The rectangle over the line between two points (x, z) of the plan; None if it isn't seen."""
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
