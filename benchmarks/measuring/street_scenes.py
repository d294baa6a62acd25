"""Ground truth and predictions in the size of Cityscapes, drawn at random."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

SIZE = (1024, 2048)
CLASSES = (24, 24, 24, 25, 26, 26, 26, 26, 27, 28, 31, 32, 33)


class Scene(NamedTuple):
    """One image's ground truth and predictions."""

    instance_ids: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray


def draw_object(rng: np.random.Generator) -> tuple[float, ...]:
    """Returns centre, half axes and waviness of an object; most are small, a few are huge."""
    half_width = min(np.exp(rng.normal(3.6, 0.8)), 350)
    half_height = min(half_width * rng.uniform(0.6, 2), 350)
    centre = rng.uniform(0.35, 0.85) * SIZE[0], rng.uniform(0, SIZE[1])
    return *centre, half_height, half_width, rng.uniform(0, 6)


def draw_mask(shape: tuple[float, ...]) -> np.ndarray:
    """Returns an ellipse with a wavy border."""
    y, x, half_height, half_width, phase = shape
    top, bottom = max(int(y - 1.3 * half_height), 0), min(int(y + 1.3 * half_height), SIZE[0])
    left, right = max(int(x - 1.3 * half_width), 0), min(int(x + 1.3 * half_width), SIZE[1])
    rows, columns = np.mgrid[top:bottom, left:right]
    dy, dx = (rows - y) / half_height, (columns - x) / half_width
    angle = np.arctan2(dy, dx)
    radius = 1 + 0.1 * np.sin(5 * angle + phase) + 0.05 * np.sin(11 * angle + 2 * phase)
    mask = np.zeros(SIZE, bool)
    mask[top:bottom, left:right] = dy**2 + dx**2 < radius**2
    return mask


def draw_scene(rng: np.random.Generator, num_objects: int, num_predictions: int) -> Scene:
    """Returns stuff, poles, objects and groups, with predictions near objects and anywhere."""
    height, width = SIZE
    ids = np.full(SIZE, 7, np.int32)
    rows = np.arange(height)[:, None]
    for label, level in ((8, 0.62), (21, 0.55), (11, 0.45), (23, 0.2)):
        skyline = level * height + np.cumsum(rng.normal(0, 2, width))
        ids[rows < skyline] = label
    for _ in range(40):
        y, x = rng.integers(200, 700), rng.integers(width)
        ids[max(y - rng.integers(150), 0) : y, x : x + rng.integers(1, 20)] = rng.choice(
            [17, 20, 4]
        )
    objects, labels = (
        [draw_object(rng) for _ in range(num_objects)],
        rng.choice(CLASSES, num_objects),
    )
    for k, (shape, label) in enumerate(zip(objects, labels, strict=True)):
        ids[draw_mask(shape)] = label if rng.random() < 0.1 else label * 1000 + k
    ids[int(0.92 * height) :] = 1  # the car that drives

    masks = np.zeros((num_predictions, *SIZE), bool)
    predicted = rng.choice(CLASSES, num_predictions)
    for k in range(num_predictions):
        shape = draw_object(rng)
        if k < 0.6 * num_predictions:
            near = rng.integers(num_objects)
            y, x, half_height, half_width, phase = objects[near]
            y, x = y + rng.normal(0, 0.05) * half_height, x + rng.normal(0, 0.05) * half_width
            shape = y, x, half_height * rng.uniform(0.9, 1.1), half_width, phase
            predicted[k] = labels[near]
        masks[k] = draw_mask(shape)
    return Scene(ids, masks, predicted, rng.random(num_predictions).astype(np.float32))


def write_predictions(scene: Scene, folder: Path, name: str):
    """Writes a PNG of each mask, and NAME_pred.txt, which lists them for the official script."""
    lines = []
    for k, mask in enumerate(scene.masks):
        file = f"{name}_{k}.png"
        Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(folder / file)
        lines.append(f"{file} {scene.labels[k]} {float(scene.scores[k])!r}\n")
    (folder / f"{name}_pred.txt").write_text("".join(lines))
