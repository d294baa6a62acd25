"""Image files as arrays: pictures as upright RGB, maps of ids as whole numbers."""

import os
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image, ImageOps

ORIENTATION = 0x0112  # the EXIF field; from 5 on, the image is stored lying on its side

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


def read_ids(
    path: Path, encoding: Literal["grey", "rgb"] | None = None
) -> Int32[np.ndarray, "height width"]:
    """A map of ids: a grey or palette PNG's values; of RGB, red + 256 green + 65536 blue.

    Args:
        path: of the file.
        encoding: the only form that is accepted; None for both. RGB may have alpha, which is
            dropped, where it is the only form.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, or isn't a map of whole numbers in this form; it is named.
    """
    try:
        with Image.open(path) as image:
            mode, ids = image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing; every image needs its map of ids") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} can't be read ({error}); write or unpack it again") from error
    if mode == "RGB" if encoding is None else encoding == "rgb":
        if ids.ndim != 3 or ids.shape[2] < 3 or ids.dtype != np.uint8:
            raise ValueError(
                f"{path} isn't RGB but of PIL's mode {mode}; panoptic ids are R + 256 G + 65536 B"
            )
        return ids[..., :3].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.min() < 0:
        raise ValueError(
            f"{path} isn't a map of ids (PIL's mode {mode}); save it as a PNG of 8 or 16 bits"
        )
    return ids.astype(np.int32)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an upright image, from the beginning of its file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file isn't an image, or a PNG whose end is missing.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            kind = image.format
            rotates = kind != "PNG" or "exif" in image.info  # or else PIL would decode the PNG
            turned = rotates and image.getexif().get(ORIENTATION, 1) >= 5
        if kind == "PNG" and b"IEND" not in (end := end_of(path)):
            raise ValueError(f"{path} ends too early (with {end!r}); copy or unpack it again")
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{path} is missing") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path} can't be read as an image ({error})") from error
    return (width, height) if turned else (height, width)


def end_of(path: Path) -> bytes:
    """The last bytes of a file."""
    with path.open("rb") as file:
        file.seek(-min(12, path.stat().st_size), os.SEEK_END)
        return file.read()
