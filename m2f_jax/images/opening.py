"""Image files, opened only where they are regular files of a size that fits into memory.

Whatever Pillow raises becomes one error that names the file.
"""

import contextlib
import io
import mimetypes
import os
import stat
import struct
import threading
from collections.abc import Iterator
from typing import IO, cast

from PIL import Image

from m2f_jax.pixel_limit import max_pixels

LARGE = 2**25  # pixels; larger images are decoded one at a time
REFUSED_KINDS = ("EPS",)  # a program that Pillow would run in Ghostscript
LONGEST_REASON = 200  # characters of a message by Pillow
# Kinds that Pillow only recognises, or runs as a program.
NOT_PICTURES = ("BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF")
# Found in folders even where the plugin that reads them is missing; each is refused by name then.
WITH_A_PLUGIN = (".avif", ".heic", ".heif", ".jxl")

_one_at_a_time = threading.RLock()


class ImageFileError(ValueError):
    """An image that is refused; the message names it and says why."""


@contextlib.contextmanager
def open_image(path: str | os.PathLike, limit: int | None = None) -> Iterator[Image.Image]:
    """Opens an image file, which is decoded within the `with` block.

    Args:
        path: of the file.
        limit: how many pixels it may have; None for `max_pixels()`.

    Raises:
        FileNotFoundError: there is no such file, or it is a folder, a pipe or a device.
        ImageFileError: it isn't an image, is damaged, empty or too large, or Pillow fails within
            the block.
    """
    name = os.fspath(path)
    check_regular(name)
    with image_errors(name), open(name, "rb") as file, opened(file, name, limit) as image:
        yield image


@contextlib.contextmanager
def open_encoded(data: bytes, name: str, limit: int | None = None) -> Iterator[Image.Image]:
    """Opens an image file that is in memory; else as `open_image`.

    Args:
        data: the file's bytes.
        name: of the image, for messages.
        limit: how many pixels it may have; None for `max_pixels()`.

    Raises:
        ImageFileError: as `open_image`.
    """
    with image_errors(name), opened(io.BytesIO(data), name, limit) as image:
        yield image


@contextlib.contextmanager
def opened(file: io.BufferedIOBase, name: str, limit: int | None) -> Iterator[Image.Image]:
    """Yields an image of an open file once its size is known to be allowed."""
    image = identify(file)
    check_pixels(image.size, name, limit)
    with _one_at_a_time if image.width * image.height > LARGE else contextlib.nullcontext():
        yield image
    check_pixels(image.size, name, limit)  # an icon's is known once it is decoded


@contextlib.contextmanager
def image_errors(name: str) -> Iterator[None]:
    """Turns any exception within the `with` block into an `ImageFileError` that names the image."""
    try:
        yield
    except ImageFileError:
        raise
    except Exception as error:  # decoders raise all kinds
        kind, _ = mimetypes.guess_type(name)
        remedy = (
            "its name is that of a video: m2f predict --video, with a model of videos"
            if kind and kind.startswith("video/")
            else "is it damaged or of another kind? Save it again as PNG or JPEG"
        )
        raise ImageFileError(
            f"{name} can't be read as an image ({reason(error)}); {remedy}"
        ) from error


def check_regular(name: str):
    """Refuses what isn't a regular file, such as a pipe, from which reading may never end.

    Raises:
        FileNotFoundError: it is missing, or something else.
        ImageFileError: it is a link to itself, or may not be read.
    """
    try:
        mode = os.stat(name).st_mode
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(f"{name} is missing") from error
    except (OSError, ValueError) as error:
        raise ImageFileError(f"{name} can't be opened ({reason(error)})") from error
    if not stat.S_ISREG(mode):
        kinds = ((stat.S_ISDIR, "a folder"), (stat.S_ISFIFO, "a pipe"), (stat.S_ISSOCK, "a socket"))
        kind = next((kind for is_kind, kind in kinds if is_kind(mode)), "a device")
        raise FileNotFoundError(f"{name} is {kind}; expected an image file")


def identify(file: io.BufferedIOBase) -> Image.Image:
    """Reads the header of an image, as `Image.open` does, but without its limit of pixels.

    Pillow isn't told the file's name. With it, Pillow would map grey TIFFs into memory, and
    confuse height and width of those that lie on their side (EXIF).

    Raises:
        ValueError: no plugin of Pillow knows it. Errors of the plugins are passed on.
    """
    prefix = file.read(16)
    tried: set[str] = set(REFUSED_KINDS)
    told = "it is of no kind that Pillow can read here"
    for load_plugins in (Image.preinit, Image.init):
        load_plugins()
        for kind in [kind for kind in Image.ID if kind not in tried]:
            tried.add(kind)
            factory, accept = Image.OPEN[kind]
            with contextlib.suppress(SyntaxError, IndexError, TypeError, struct.error):
                accepted = accept is None or accept(prefix)
                if isinstance(accepted, str):  # why this Pillow can't read it
                    told = accepted
                elif accepted:
                    file.seek(0)
                    return factory(cast("IO[bytes]", file), "")
    raise ValueError(told)


def check_pixels(size: tuple[int, int], name: str, limit: int | None = None):
    """Refuses an image of no pixels or of too many.

    Args:
        size: width and height.
        name: of the image, for messages.
        limit: how many pixels it may have; None for `max_pixels()`.

    Raises:
        ImageFileError: it is refused.
    """
    width, height = size
    limit = max_pixels() if limit is None else limit
    if width < 1 or height < 1:
        raise ImageFileError(f"{name} has no pixels ({width} x {height})")
    if width * height > limit:
        raise ImageFileError(
            f"{name} has {width} x {height} = {width * height} pixels, and {limit} are allowed; "
            "shrink it, cut it into pieces, or allow more with --max-pixels (max_pixels in Python)"
        )


def reason(error: Exception) -> str:
    """Returns the first line of an error, without the file name of operating system errors."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return text.splitlines()[0][:LONGEST_REASON]


def image_suffixes() -> set[str]:
    """Returns the endings, such as ".png", by which images are found in a folder."""
    kinds = Image.registered_extensions()
    readable = {x for x, kind in kinds.items() if kind in Image.OPEN and kind not in NOT_PICTURES}
    return readable | set(WITH_A_PLUGIN)
