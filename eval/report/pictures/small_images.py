"""Images and maps in the size of a picture, and image files as text."""

import base64
import io
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from .picture import LONGEST


def shrunk(width: int, height: int) -> tuple[int, int]:
    """Returns the size of an image that is made no longer than `LONGEST`."""
    scale = min(1.0, LONGEST / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def resized(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a map [height, width] in another size, (width, height), by nearest pixels."""
    height, width = values.shape
    columns, rows = (
        ((np.arange(to) + 0.5) * (whole / to)).astype(int)
        for to, whole in zip(size, (width, height), strict=True)
    )
    return values[rows[:, None], columns]


def jpeg(image: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> str:
    """Returns a small photograph in base64."""
    small = Image.fromarray(image).resize(size, Image.Resampling.BOX)
    return base64_of(small, "JPEG", quality=80)


def base64_of(image: Image.Image, format: str, **options: Any) -> str:
    """Returns an image file in base64."""
    file = io.BytesIO()
    image.save(file, format, **options)
    return base64.b64encode(file.getvalue()).decode()
