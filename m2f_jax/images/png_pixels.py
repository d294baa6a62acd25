"""The pixels of PNG files, decompressed faster than by Pillow and equal to what Pillow gives.

Decompression takes most of the time that a map of ids needs. With the optional package zlib-ng it
is several times as fast. Pillow then gets the same file with its data stored instead of compressed,
so that Pillow still decides what the pixels are. Masks are mostly black, so only the rest of their
pixels is decoded here.

Only plain, sound files are taken: known chunks whose checksums are right, and as much data as the
header says. Everything else is left to Pillow and its messages.
"""

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, UInt8
from PIL import Image
from PIL.PngImagePlugin import PngImageFile

inflater: Any = zlib
try:
    from zlib_ng import zlib_ng

    inflater = zlib_ng
except ImportError:  # the extra "fast" isn't installed
    pass

SIGNATURE = b"\x89PNG\r\n\x1a\n"
LARGEST = 2**26  # bytes of inflated pixels; larger images aren't held in memory twice
BLOCK = 2**16 - 1  # bytes of a stored block, at most
STRIP = 32  # rows that are unfiltered at a time; a multiple of 8
GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
CHANNELS = {GREY: 1, RGB: 3, PALETTE: 1, GREY_ALPHA: 2, RGBA: 4}
NONE, SUB, UP, PAETH = 0, 1, 2, 4  # filters
IGNORED = (b"pHYs", b"tIME", b"gAMA", b"cHRM", b"sRGB")  # chunks that don't change the pixels


class Png(NamedTuple):
    """A plain PNG: not interlaced.

    Attributes:
        width: in pixels.
        height: in pixels.
        bits: of a channel.
        kind: the colour type.
        head: the chunks before the pixels, with the signature.
        data: the compressed pixels.
    """

    width: int
    height: int
    bits: int
    kind: int
    head: bytes
    data: bytes

    @property
    def row_bytes(self) -> int:
        """The number of bytes of a row, with the one that names its filter."""
        return 1 + -(-self.width * self.bits * CHANNELS[self.kind] // 8)


class BlackElsewhere(NamedTuple):
    """The rows of a mask that aren't all black.

    Attributes:
        top: the first of them.
        rows: True where a pixel isn't black; some rows at either end may be black.
    """

    top: int
    rows: Bool[np.ndarray, "rows width"]


def pixels_of(image: Image.Image) -> np.ndarray:
    """Returns what `np.asarray` does, for an image that is opened and not decoded yet."""
    return np.asarray(stored(image))


def stored(image: Image.Image) -> Image.Image:
    """Returns an image that Pillow decodes faster to the same pixels, or the image itself."""
    if inflater is zlib or (png := plain_png(image)) is None:
        return image
    size = png.height * png.row_bytes
    parts, checksum = [b"\x78\x01"], 1
    try:
        for block in inflated(png, BLOCK):
            size -= len(block)
            checksum = inflater.adler32(block, checksum)
            parts += [struct.pack("<BHH", size == 0, len(block), len(block) ^ 0xFFFF), block]
    except (inflater.error, EOFError):
        return image
    parts.append(struct.pack(">I", checksum))
    length = sum(map(len, parts))
    # Pillow doesn't look at the checksum of pixels; they were compared before.
    head = [png.head, struct.pack(">I4s", length, b"IDAT")]
    return PngImageFile(io.BytesIO(b"".join([*head, *parts, bytes(4), chunk(b"IEND")])))


def mask_rows(image: Image.Image) -> BlackElsewhere | None:
    """Returns where an image of up to 8 bits of grey isn't black; None if Pillow has to read it."""
    png = plain_png(image)
    if png is None or png.kind != GREY or png.bits > 8:
        return None
    above = np.zeros(png.row_bytes - 1, np.uint8)
    strips: list[tuple[int, UInt8[np.ndarray, "rows bytes"]]] = []
    try:
        for number, block in enumerate(inflated(png, STRIP * png.row_bytes)):
            words = len(block) // 8
            zero = not np.frombuffer(block, np.uint64, words).any() and not any(block[8 * words :])
            if zero and not above.any():
                continue
            filtered = np.frombuffer(block, np.uint8).reshape(-1, png.row_bytes)
            if (rows := unfiltered(filtered, above)) is None:
                return None
            strips.append((number * STRIP, rows))
            above = rows[-1]
    except (inflater.error, EOFError):
        return None
    if not strips:
        return BlackElsewhere(0, np.zeros((0, png.width), bool))
    top = strips[0][0]
    last, rows = strips[-1]
    found = np.zeros((last + len(rows) - top, png.width), bool)
    for start, rows in strips:
        found[start - top : start - top + len(rows)] = not_black(rows, png)
    return BlackElsewhere(top, found)


def not_black(rows: UInt8[np.ndarray, "rows bytes"], png: Png) -> Bool[np.ndarray, "rows width"]:
    """Returns where pixels of up to 8 bits aren't 0."""
    if png.bits == 8:
        return rows != 0
    bits = np.unpackbits(rows, axis=1).reshape(len(rows), -1, png.bits)
    return (bits.max(axis=2) != 0)[:, : png.width]


def unfiltered(
    filtered: UInt8[np.ndarray, "rows bytes"], above: UInt8[np.ndarray, "bytes-1"]
) -> UInt8[np.ndarray, "rows bytes-1"] | None:
    """Returns rows of single-byte pixels; None where undoing their filters would be slow.

    Args:
        filtered: the rows, each after its filter.
        above: the row before them.
    """
    kinds, rows = filtered[:, 0], filtered[:, 1:].copy()
    starts = np.flatnonzero(np.diff(kinds, prepend=255))
    for start, end in zip(starts, np.append(starts[1:], len(kinds)), strict=True):
        part, kind = rows[start:end], kinds[start]
        if kind == SUB:
            np.add.accumulate(part, axis=1, dtype=np.uint8, out=part)
        elif kind == UP:
            for row in part:  # much faster than accumulate along this axis
                row += above
                above = row
        elif kind == PAETH:
            for row in part:
                if not unfilter_paeth(row, above):
                    return None
                above = row
        elif kind != NONE:
            return None
        above = part[-1]
    return rows


def unfilter_paeth(row: UInt8[np.ndarray, "bytes"], above: UInt8[np.ndarray, "bytes"]) -> bool:
    """Undoes Paeth's filter in place; returns False, with nothing done, where it would be slow.

    Where the filtered pixel is 0 and the row above doesn't change, a pixel equals its left
    neighbour. Only the others are computed.
    """
    before = np.concatenate([[0], above[:-1]])
    places = np.flatnonzero(row | (above ^ before))
    if len(places) > len(row) // 8:
        return False
    left, values = 0, []
    for change, up, corner in zip(
        row[places].tolist(), above[places].tolist(), before[places].tolist(), strict=True
    ):
        guess = left + up - corner
        near = (abs(guess - left), left), (abs(guess - up), up), (abs(guess - corner), corner)
        left = (min(near, key=lambda pair: pair[0])[1] + change) & 255  # the first of equals
        values.append(left)
    lengths = np.diff(places, prepend=0, append=len(row))
    row[:] = np.repeat(np.array([0, *values], np.uint8), lengths)
    return True


def inflated(png: Png, size: int) -> Iterator[bytes]:
    """Yields the filtered rows in blocks of `size` bytes; the last one may be smaller.

    Raises:
        EOFError: there are less of them than the header says, or more.
        zlib.error: the data are damaged.
    """
    inflate, data = inflater.decompressobj(), png.data
    left = png.height * png.row_bytes
    while left:
        parts, wanted = [], min(size, left)
        left -= wanted
        while wanted:
            part = inflate.decompress(data, wanted)
            data = inflate.unconsumed_tail
            if not part:
                raise EOFError("too few pixels")
            parts.append(part)
            wanted -= len(part)
        yield parts[0] if len(parts) == 1 else b"".join(parts)
    if inflate.decompress(data, 1) or not inflate.eof or inflate.unused_data:
        raise EOFError("too many pixels, or no end")


def plain_png(image: Image.Image) -> Png | None:
    """Returns the file of an opened image if it is plain and sound, without moving its position."""
    if image.format != "PNG" or not isinstance(image, PngImageFile) or image.fp is None:
        return None
    file, place = image.fp, image.fp.tell()
    try:
        file.seek(0)
        data = file.read(LARGEST + 1)
    finally:
        file.seek(place)
    if len(data) > LARGEST or not data.startswith(SIGNATURE):
        return None
    head, parts, position = [SIGNATURE], [], len(SIGNATURE)
    header = b""
    while True:
        if len(data) < position + 12:
            return None
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if len(data) < end:
            return None
        (checksum,) = struct.unpack_from(">I", data, end - 4)
        if inflater.crc32(data[position + 4 : end - 4]) != checksum:
            return None
        if name == b"IEND":
            break
        if name == b"IDAT" and header:
            parts.append(data[position + 8 : end - 4])
        elif name == b"IHDR" and length == 13 and not header:
            header = data[position + 8 : end - 4]
            head.append(data[position:end])
        elif name == b"PLTE" and header and not parts:
            head.append(data[position:end])
        elif name not in IGNORED or not header or parts:
            return None  # such as transparency, frames, text
        position = end
    if not header or length:
        return None
    width, height, bits, kind, *rest = struct.unpack(">IIBBBBB", header)
    if rest != [0, 0, 0] or (width, height) != image.size or kind not in CHANNELS:
        return None
    png = Png(width, height, bits, kind, b"".join(head), b"".join(parts))
    return png if png.height * png.row_bytes <= LARGEST else None


def chunk(name: bytes) -> bytes:
    """Returns a chunk without content."""
    return struct.pack(">I4sI", 0, name, zlib.crc32(name))
