"""Random inputs of the deformable attention, the same for all sides.

The queries are the pixels of the maps at strides 32, 16 and 8, and look at random places around
themselves, as in the pixel decoder.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from m2f_jax.sizes import Size

STRIDES = (32, 16, 8)
HEADS, POINTS, HEAD_WIDTH = 8, 4, 32  # of the published models
SPREAD = 2.0  # pixels of a level between a query and where it looks, as a standard deviation
CLEAR = 0.05  # pixels between such a place and the lines on which the derivative jumps


class Inputs(NamedTuple):
    """An operator's inputs, and the gradient of its result: arrays of some framework."""

    values: Any
    locations: Any
    weights: Any
    gradient: Any


def level_sizes(size: Size) -> list[Size]:
    """Returns the sizes of the levels of an image."""
    height, width = size
    return [(height // stride, width // stride) for stride in STRIDES]


def draw(sizes: Sequence[Size], heads: int = HEADS, points: int = POINTS) -> Inputs:
    """Returns random inputs of one image, in numpy and float32.

    Args:
        sizes: the sizes of the levels.
        heads: the heads of the attention, each of 32 channels.
        points: the points of a query in each head and level.
    """
    from m2f_jax.modeling.pixel_decoders.deformable import reference_points

    rng = np.random.default_rng(0)
    places = np.asarray(reference_points(sizes))
    queries = len(places)
    shape = (1, queries, heads, len(sizes), points)
    pixels = np.array([(width, height) for height, width in sizes])[:, None]
    there = places[:, None, None, None] * pixels - 0.5 + SPREAD * rng.normal(size=(*shape, 2))
    whole = np.floor(there)
    locations = (whole + np.clip(there - whole, CLEAR, 1 - CLEAR) + 0.5) / pixels
    weights = np.exp(rng.normal(size=shape))
    arrays = (
        rng.normal(size=(1, queries, heads, HEAD_WIDTH)),
        locations,
        weights / weights.sum((-2, -1), keepdims=True),
        rng.normal(size=(1, queries, heads * HEAD_WIDTH)),
    )
    return Inputs(*(x.astype(np.float32) for x in arrays))
