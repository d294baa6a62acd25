"""Drawn predictions, the same for all sides."""

from typing import Any, NamedTuple

import numpy as np

INSTANCES, SEMANTIC, PANOPTIC = POST_PROCESSING = (
    "post-processing, instances",
    "post-processing, semantic map",
    "post-processing, panoptic map",
)
OF_NO_OBJECT = 6  # of so many queries, one is sure of a class, and all others of "no object"


class Drawn(NamedTuple):
    """Logits such as a trained model's, for post-processing."""

    class_logits: np.ndarray  # [B, Q, K + 1], float32
    mask_logits: np.ndarray  # [B, Q, h, w], float32


def draw_predictions(class_logits: Any, mask_logits: Any) -> Drawn:
    """Returns predictions of the same shapes: masks are discs, and few queries are sure."""
    rng = np.random.default_rng(0)
    images, queries, height, width = np.shape(mask_logits)
    classes = rng.normal(size=np.shape(class_logits))
    classes[..., -1] += 8
    sure = np.arange(0, queries, OF_NO_OBJECT)
    for i in range(images):
        labels = rng.integers(0, classes.shape[2] - 1, len(sure))
        classes[i, sure, labels] += 16
    y, x = np.mgrid[:height, :width]
    centre_y = rng.uniform(0, height, size=(images, queries, 1, 1))
    centre_x = rng.uniform(0, width, size=(images, queries, 1, 1))
    # Discs of the sure queries cover about half of the image, if they don't overlap.
    radius = np.sqrt(height * width / (2 * np.pi * len(sure)))
    radius = radius * rng.uniform(0.7, 1.3, size=(images, queries, 1, 1))
    masks = radius - np.hypot(y - centre_y, x - centre_x)
    return Drawn(classes.astype(np.float32), masks.clip(-8, 8).astype(np.float32))
