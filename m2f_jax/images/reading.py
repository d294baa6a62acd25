"""Image files as arrays: pictures as upright RGB, maps of ids as whole numbers."""

import os
import struct
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from m2f_jax.images.opening import (
    ImageFileError,
    check_pixels,
    image_errors,
    open_encoded,
    open_image,
)
from m2f_jax.images.png_pixels import pixels_of, stored
from m2f_jax.sizes import Size

ORIENTATION = 0x0112  # the EXIF field
LYING = (5, 6, 7, 8)  # its values for images that are stored lying on their sides
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
BACK = {6: 8, 8: 6}  # what undoes a turn; the others undo themselves
TURNED_BY_PILLOW = "TIFF"  # turned upright by Pillow itself, as it is decoded
ORIENTATION_KEYWORDS = (b"XML:com.adobe.xmp", b"Raw profile type")  # of texts in PNGs
PNG_SIGNATURE_LENGTH = 8

ImageSource = str | os.PathLike | Image.Image | UInt8[np.ndarray, "_ _ 3"]


def read_image(
    source: ImageSource, *, upright: bool = True, max_pixels: int | None = None
) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the RGB pixels of a file, a PIL image or an array.

    Files and PIL images are turned upright (EXIF), grey and palette images become RGB, transparency
    is dropped, CMYK is converted and 16-bit greys are scaled to 8 bits; as detectron2's reader does
    where it reads such files. Gamma and color profiles have no effect. The first of several pages
    or frames is taken; `count_pages` tells how many there are.

    Args:
        source: the image; arrays are taken as they are.
        upright: whether to heed EXIF; False gives the pixels as they are stored.
        max_pixels: how many pixels it may have; None for `images.max_pixels()`.

    Raises:
        TypeError: the source is something else, such as another library's array.
        FileNotFoundError: there is no such file, or it isn't a regular one.
        ValueError: the file isn't an image, is damaged, empty, too large, or of a kind that has no
            8-bit RGB form (32-bit integers, floats); the message names it and says what to do.
    """
    if isinstance(source, np.ndarray):
        return check_array(source)
    if isinstance(source, Image.Image):
        check_pixels(source.size, "the image", max_pixels)
        with image_errors("the image"):
            return to_rgb(source, "the image", upright)
    if not isinstance(source, str | os.PathLike):
        raise TypeError(
            f"an image is a path, a PIL image or a numpy array, not {type(source).__name__}; "
            "turn arrays of other libraries into numpy's with np.asarray"
        )
    with open_image(source, max_pixels) as image:
        return to_rgb(image, os.fspath(source), upright)


def decode_image(
    data: bytes, name: str, *, upright: bool = True, max_pixels: int | None = None
) -> tuple[UInt8[np.ndarray, "height width 3"], int]:
    """Returns the RGB pixels of an image file in memory, as `read_image`, and its number of pages.

    Args:
        data: the file's bytes.
        name: of the image, for messages.
        upright: as for `read_image`.
        max_pixels: as for `read_image`.

    Raises:
        ValueError: as `read_image`.
    """
    with open_encoded(data, name, max_pixels) as image:
        return to_rgb(image, name, upright), pages_of(image)


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


def to_rgb(image: Image.Image, name: str, upright: bool) -> UInt8[np.ndarray, "height width 3"]:
    """Returns the pixels of a PIL image as 8-bit RGB, turned as EXIF says if `upright`."""
    stored = orientation(image) if image.format == TURNED_BY_PILLOW else 1
    image.load()
    turn = TURNS.get(orientation(image) if upright else BACK.get(stored, stored))
    if turn is not None:
        image = image.transpose(turn)
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ImageFileError(
            f"{name} holds 32-bit numbers (mode {image.mode}), whose range is unknown; "
            "convert it to 8-bit RGB first"
        )
    if image.mode == "P" and isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # PIL wants this step
    return np.asarray(image.convert("RGB"))


def orientation(image: Image.Image) -> int:
    """Returns EXIF's orientation of an image, from 1 (upright) to 8."""
    return image.getexif().get(ORIENTATION, 1)


def read_ids(
    path: Path,
    encoding: Literal["grey", "rgb"] | None = None,
    *,
    max_pixels: int | None = None,
    bits: int = 8,
) -> Integer[np.ndarray, "height width"]:
    """Reads a map of ids: grey or palette values, or red + 256 green + 65536 blue of an RGB image.

    Grey and palette values keep their dtype, such as uint8 and uint16; ids of RGB are int32.

    Args:
        path: of the file.
        encoding: the only form that is accepted; None for both. With "rgb", the image may have an
            alpha channel, which is dropped.
        max_pixels: how many pixels it may have; None for `images.max_pixels()`.
        bits: the fewest that a grey or palette value may have.

    Raises:
        FileNotFoundError: there is no such file, or it isn't a regular one.
        ValueError: the file is damaged, too large, or isn't a map of whole numbers in this form;
            the message names it.
    """
    with open_image(path, max_pixels) as image:
        mode = image.mode
        if encoding != "grey" and mode in ("RGB", "RGBA") and (mode == "RGB" or encoding == "rgb"):
            four = stored(image).tobytes("raw", "RGBX" if mode == "RGB" else mode)
            ids = np.frombuffer(four, "<u4").reshape(image.height, image.width) & 0xFFFFFF
            return ids.view(np.int32)
        ids = pixels_of(image)
    if mode == "RGB" if encoding is None else encoding == "rgb":
        if ids.ndim != 3 or ids.shape[2] < 3 or ids.dtype != np.uint8:
            raise ImageFileError(
                f"{path} isn't RGB but of PIL's mode {mode}; panoptic ids are R + 256 G + 65536 B"
            )
        return ids[..., :3].astype(np.int32) @ np.array([1, 256, 65536], np.int32)
    if ids.ndim != 2 or ids.dtype.kind not in "iu" or ids.min() < 0:
        raise ImageFileError(
            f"{path} isn't a map of ids (PIL's mode {mode}); save it as a PNG of 8 or 16 bits"
        )
    if (found := 8 * ids.dtype.itemsize) < bits:
        raise ImageFileError(f"{path} is a map of {found} bits; its ids need {bits}. Write it anew")
    return ids


def image_size(path: Path, *, upright: bool = True, max_pixels: int | None = None) -> Size:
    """Returns height and width of an image, from the header of its file.

    Args:
        path: of the file.
        upright: whether to heed EXIF; False gives the size as it is stored.
        max_pixels: how many pixels it may have; None for `images.max_pixels()`.

    Raises:
        FileNotFoundError: there is no such file, or it isn't a regular one.
        ValueError: the file isn't an image, is too large, or is a PNG whose end is missing.
    """
    with open_image(path, max_pixels) as image:
        width, height = image.size
        # Pillow would decode a PNG to look for EXIF.
        may_be_turned = image.format != "PNG" or mentions_orientation(path)
        lying = may_be_turned and orientation(image) in LYING
        swapped = lying and upright != (image.format == TURNED_BY_PILLOW)
    return (width, height) if swapped else (height, width)


def verified_size(path: Path, *, max_pixels: int | None = None) -> Size:
    """Returns height and width of an image as stored, after comparing the checksums of a PNG.

    Raises:
        FileNotFoundError: there is no such file, or it isn't a regular one.
        ValueError: the file isn't an image, is too large, or is a damaged PNG.
    """
    with open_image(path, max_pixels) as image:
        width, height = image.size
        image.verify()
    return height, width


def count_pages(path: Path, *, max_pixels: int | None = None) -> int:
    """Returns the number of pages or frames in an image file.

    Raises:
        FileNotFoundError: there is no such file, or it isn't a regular one.
        ValueError: the file isn't an image, is damaged or too large.
    """
    with open_image(path, max_pixels) as image:
        return pages_of(image)


def pages_of(image: Image.Image) -> int:
    """Returns the number of pages or frames of an open image file."""
    return 1 if image.format == "PSD" else getattr(image, "n_frames", 1)  # PSD has layers


def mentions_orientation(png: Path) -> bool:
    """Returns whether a PNG has EXIF or XMP, before its pixels or after.

    Raises:
        EOFError: the end of the PNG is missing.
    """
    with open(png, "rb") as file:
        file.seek(PNG_SIGNATURE_LENGTH)
        kind, found = b"", False
        while kind != b"IEND":
            head = file.read(8)
            if len(head) < 8:
                raise EOFError("its end is missing")
            length, kind = struct.unpack(">I4s", head)
            start = file.read(min(length, 24))
            found |= kind == b"eXIf" or start.startswith(ORIENTATION_KEYWORDS)
            file.seek(length - len(start) + 4, os.SEEK_CUR)
    return found
