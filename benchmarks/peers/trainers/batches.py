"""Batches that all sides of training.py are trained on, and the settings of a run."""

from typing import Any, NamedTuple

import numpy as np

SEED = 0
MOST_OBJECTS = 12  # in an image


class Settings(NamedTuple):
    """The settings of a training run; `loss` is a LossConfig, `optimizer` an OptimizerConfig.

    `seed` is that of the points; `draw_batch` always draws by `SEED`.
    """

    size: tuple[int, int]
    batch: int
    steps: int
    dtype: str
    device: str
    tf32: bool
    threads: int
    loss: Any
    optimizer: Any
    seed: int = SEED


class Scenes(NamedTuple):
    """A batch as `TrainBatch` has it, in numpy: images, and which regions make up which object."""

    pixel_values: np.ndarray
    regions: np.ndarray
    members: np.ndarray
    labels: np.ndarray
    valid: np.ndarray


def draw_batch(settings: Settings, num_classes: int, step: int) -> Scenes:
    """Returns ellipses in their classes' colors under noise; later ones hide earlier ones."""
    rng = np.random.default_rng([SEED, step])
    colors = np.random.default_rng(SEED).integers(0, 256, (num_classes, 3))
    height, width = settings.size
    y, x = np.mgrid[:height, :width]
    shape = settings.batch, MOST_OBJECTS
    counts = rng.integers(MOST_OBJECTS // 3, MOST_OBJECTS, settings.batch, endpoint=True)
    valid = np.arange(MOST_OBJECTS) < counts[:, None]
    labels = np.where(valid, rng.integers(num_classes, size=shape), 0).astype(np.int32)
    regions = np.zeros((settings.batch, height, width), np.uint16)
    images = rng.normal(128, 30, (*regions.shape, 3))
    for image, k in zip(*np.nonzero(valid), strict=True):
        centre = rng.uniform(size=2) * settings.size
        half = np.exp(rng.uniform(np.log(0.05), np.log(0.4), 2)) * settings.size
        inside = ((y - centre[0]) / half[0]) ** 2 + ((x - centre[1]) / half[1]) ** 2 < 1
        regions[image, inside] = k + 1
        images[image, inside] = colors[labels[image, k]]
    images += rng.normal(scale=8, size=images.shape)
    members = np.eye(MOST_OBJECTS, MOST_OBJECTS + 1, 1, dtype=bool) & valid[..., None]
    return Scenes(images.clip(0, 255).astype(np.uint8), regions, members, labels, valid)
