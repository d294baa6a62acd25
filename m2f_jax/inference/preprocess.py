"""Images from anywhere to uint8 RGB, resized as the authors do (detectron2's test transforms)."""

import os
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageOps

from m2f_jax.structures import Size

ImageSource = str | os.PathLike | Image.Image | UInt8[np.ndarray, "_ _ 3"]


def read_image(source: ImageSource) -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels of a file, a PIL image or an array.

    Files and PIL images are turned upright (EXIF), grey and palette images become RGB, transparency
    is dropped, CMYK is converted and 16-bit greys are scaled to 8 bits, like detectron2's reader
    where that one is defined.

    Raises:
        TypeError: the source is something else, such as another library's array.
        FileNotFoundError: there is no such file.
        ValueError: the file isn't an image, is damaged, is empty, or of a kind that has no 8-bit
            RGB form (32-bit integers, floats); the message names it and says what to do.
    """
    if isinstance(source, np.ndarray):
        return check_array(source)
    if isinstance(source, Image.Image):
        return to_rgb(source, "the image")
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"an image is a path, a PIL image or a numpy array, not {type(source).__name__}; "
            "turn arrays of other libraries into numpy's with np.asarray"
        )
    name = os.fspath(source)
    if not Path(source).is_file():
        kind = "a folder" if Path(source).is_dir() else "missing"
        raise FileNotFoundError(f"{name} is {kind}; expected an image file")
    try:
        with Image.open(source) as image:
            return to_rgb(image, name)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{name} is too large to be read safely ({error}); shrink it") from error
    except (OSError, SyntaxError, EOFError) as error:
        raise ValueError(
            f"{name} can't be read as an image ({error}); is it damaged or of another kind? "
            "Save it again as PNG or JPEG"
        ) from error


def check_array(image: np.ndarray) -> UInt8[np.ndarray, "height width 3"]:
    """Refuses an array that isn't uint8 [height, width, 3] with at least one pixel."""
    if image.ndim != 3 or image.shape[2] != 3:
        channels_first = image.ndim == 3 and image.shape[0] == 3
        hint = "; it looks channels-first: use image.transpose(1, 2, 0)" if channels_first else ""
        raise ValueError(f"an image array is [height, width, 3], not {list(image.shape)}{hint}")
    if image.dtype != np.uint8:
        raise ValueError(
            f"an image array is uint8 with values 0 to 255, not {image.dtype}; "
            "normalised floats go to the model directly"
        )
    if image.size == 0:
        raise ValueError(f"an image array needs at least one pixel, not {list(image.shape)}")
    return image


def to_rgb(image: Image.Image, name: str) -> UInt8[np.ndarray, "height width 3"]:
    """The pixels of a PIL image as upright 8-bit RGB."""
    if 0 in image.size:
        raise ValueError(f"{name} has no pixels ({image.width} x {image.height})")
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(
            f"{name} holds 32-bit numbers (mode {image.mode}), whose range is unknown; "
            "convert it to 8-bit RGB first"
        )
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # PIL wants this step
    return np.asarray(image.convert("RGB"))


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


def padded_size(size: Size, divisor: int) -> Size:
    """Returns the size rounded up to multiples of `divisor`."""
    height, width = size
    return height + -height % divisor, width + -width % divisor


def resize(
    image: UInt8[np.ndarray, "height width 3"], size: Size
) -> UInt8[np.ndarray, "{size[0]} {size[1]} 3"]:
    """Returns the image resized by PIL's bilinear filter, which smooths when it shrinks.

    The width is resized first, as PIL itself does up to version 12; from 13 on it takes the cheaper
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
