"""Resizing, padding and normalization as in the authors' code (detectron2's test transforms)."""

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from m2f_jax.pixel_limit import max_pixels
from m2f_jax.sizes import Size
from m2f_jax.structures import ImageSize

LONGEST_SIDE = 2**18  # pixels of an image; its canvas and the tables of filters grow with it


def resized_size(size: Size, shortest_edge: int | None, longest_edge: int | None) -> Size:
    """Returns a size whose shorter side is `shortest_edge`, or less to respect `longest_edge`.

    It rounds as detectron2's ResizeShortestEdge. Without both, the size stays.
    """
    height, width = map(float, size)
    if shortest_edge is not None:
        scale = shortest_edge / min(size)
        if height < width:
            height, width = float(shortest_edge), scale * width
        else:
            height, width = scale * height, float(shortest_edge)
    if longest_edge is not None and max(height, width) > longest_edge:
        scale = longest_edge / max(height, width)
        height, width = height * scale, width * scale
    return max(1, int(height + 0.5)), max(1, int(width + 0.5))


def check_sides(size: ImageSize):
    """Refuses an image that is too long, or becomes too large for the network.

    Raises:
        ValueError: it is refused; the message says what to do.
    """
    height, width = size.original
    if max(height, width) > LONGEST_SIDE:
        raise ValueError(
            f"an image of {height} x {width} (height x width) has a side of more than "
            f"{LONGEST_SIDE} pixels; cut it into pieces"
        )
    resized, limit = size.resized, max_pixels()
    if resized[0] * resized[1] > limit:
        raise ValueError(
            f"an image of {height} x {width} (height x width) would be resized to {resized[0]} x "
            f"{resized[1]} = {resized[0] * resized[1]} pixels for the model, and {limit} are "
            "allowed; cut it into pieces, set the processor's longest_edge, or allow more with "
            "--max-pixels (m2f_jax.images.set_max_pixels in Python)"
        )


def padded_size(size: Size, divisor: int) -> Size:
    """Returns the size rounded up to multiples of `divisor`."""
    height, width = size
    return height + -height % divisor, width + -width % divisor


def resize(
    image: UInt8[np.ndarray, "height width 3"], size: Size
) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """Returns the image resized by PIL's bilinear filter, which smooths when it shrinks.

    The width is resized first, as PIL itself does up to version 12; later versions take the cheaper
    order. Each pass rounds, so in the other order a few pixels would differ by one.
    """
    for width, height in ((size[1], image.shape[0]), (size[1], size[0])):
        if image.shape[:2] != (height, width):
            resized = Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR)
            image = np.asarray(resized)
    return image


def pad(
    image: UInt8[np.ndarray, "height width 3"], size: Size
) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """Returns the image with zeros at the bottom and on the right."""
    height, width, _ = image.shape
    return np.pad(image, ((0, size[0] - height), (0, size[1] - width), (0, 0)))


def normalize(
    image: UInt8[np.ndarray, "height width 3"],
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> Float[np.ndarray, "height width 3"]:
    """Returns (image - mean) / std in float32, in units of 0 to 255."""
    return (image.astype(np.float32) - np.asarray(mean, np.float32)) / np.asarray(std, np.float32)
