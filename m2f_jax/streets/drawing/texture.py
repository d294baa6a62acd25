"""Patterns for surfaces: noise, and stripes that stay smooth however far away they are."""

import functools

import numpy as np
from jaxtyping import Float

from m2f_jax.streets.drawing.randomness import Number, Random

TILE = 512


@functools.lru_cache(maxsize=1)
def noise_tile() -> Float[np.ndarray, "512 512"]:
    """Returns cloudy noise between -1 and 1 that repeats without a seam."""
    rng = Random(20)
    total = np.zeros((TILE, TILE))
    cells, weight = 4, 1.0
    while cells <= TILE:
        total += weight * smooth_grid(rng.fractions(cells, cells) * 2 - 1)
        cells, weight = cells * 2, weight * 0.62
    return (total / np.abs(total).max()).astype(np.float32)


@functools.lru_cache(maxsize=1)
def grain_tile() -> Float[np.ndarray, "512 512"]:
    """Returns fine noise between -1 and 1 that repeats without a seam."""
    rng = Random(21)
    fine = rng.fractions(TILE, TILE) * 2 - 1
    coarse = smooth_grid(rng.fractions(TILE // 4, TILE // 4) * 2 - 1)
    return (0.6 * fine + 0.4 * coarse).astype(np.float32)


def smooth_grid(grid: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "512 512"]:
    """Interpolates a square of values to a smooth picture that repeats."""
    cells = len(grid)
    at = np.arange(TILE) * (cells / TILE)
    low = at.astype(int)
    t = at - low
    t = t * t * (3 - 2 * t)
    high = (low + 1) % cells
    rows = grid[low] * (1 - t)[:, None] + grid[high] * t[:, None]
    return rows[:, low] * (1 - t) + rows[:, high] * t


def noise(
    x: Float[np.ndarray, "*xs"], y: Float[np.ndarray, "*ys"], *, fine: bool = False
) -> Float[np.ndarray, "..."]:
    """Returns the noise at points in units of its smallest detail; the shapes are broadcast."""
    tile = grain_tile() if fine else noise_tile()
    row, column = (np.floor(at).astype(np.int32) & (TILE - 1) for at in (y, x))
    return tile.take(row * TILE + column)


def stripes(
    x: Float[np.ndarray, "*xs"],
    width: Float[np.ndarray, "*widths"],
    period: Number,
    low: Number,
    high: Number,
) -> Float[np.ndarray, "..."]:
    """Returns the share of [x - width/2, x + width/2] in [low, high] + multiples of the period."""

    def covered(t: np.ndarray) -> np.ndarray:
        turns = np.floor(t / period)
        return turns * (high - low) + (t - turns * period - low).clip(0, high - low)

    return ((covered(x + width / 2) - covered(x - width / 2)) / width).clip(0, 1)


def band(
    x: Float[np.ndarray, "*xs"], width: Float[np.ndarray, "*widths"], low: Number, high: Number
) -> Float[np.ndarray, "..."]:
    """Returns the share of [x - width/2, x + width/2] in [low, high]."""
    return (((x - low) / width + 0.5).clip(0, 1) + ((high - x) / width + 0.5).clip(0, 1) - 1).clip(
        0, 1
    )


def mix(
    colors: Float[np.ndarray, "... 3"],
    other: Float[np.ndarray, "... 3"],
    share: Float[np.ndarray, "..."],
) -> Float[np.ndarray, "... 3"]:
    """Blends a share of other colors into colors."""
    return colors + (other.astype(colors.dtype) - colors) * share[..., None]
