"""Random images, the same for all sides."""

import numpy as np
from PIL import Image


def draw_images(batch: int, size: tuple[int, int], scale: float = 1.0) -> list[np.ndarray]:
    """Returns uint8 images of blurred colors under noise, of a size times a scale."""
    rng = np.random.default_rng(0)
    height, width = (int(side * scale) for side in size)
    images = []
    for _ in range(batch):
        colors = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        blurred = np.asarray(colors.resize((width, height), Image.Resampling.BICUBIC))
        noisy = blurred + rng.normal(scale=8, size=blurred.shape)
        images.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return images
