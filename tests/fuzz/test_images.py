"""Image files: pictures, maps of ids, and sizes."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from m2f_jax.images import count_pages, image_size, read_ids, read_image
from tests.fuzz.targets import fuzz, refused_by_name

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
OF_PAGES = ("GIF", "PNG", "TIFF", "WEBP")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F")
COLORS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # PNG's color types and their channels


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk whose checksum is right, so that decoders go on to what it holds."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@st.composite
def pngs(draw) -> bytes:
    """A PNG of any claims: size, depth and color need not be those of its pixels."""
    sides = st.one_of(st.integers(0, 40), st.sampled_from([13_000, 20_000, 2**31 - 1, 2**32 - 1]))
    width, height = draw(sides), draw(sides)
    depth = draw(st.sampled_from([1, 2, 4, 8, 16, 16, 3]))
    color = draw(st.sampled_from([*COLORS, 1]))
    row = 1 + -(-min(width, 100) * depth * COLORS.get(color, 1) // 8)
    rows = bytes(row) * min(height, 100)
    others = st.tuples(
        st.sampled_from([b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"eXIf", b"acTL", b"fcTL", b"zTXt"]),
        st.binary(max_size=40),
    )
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)),
        *draw(st.lists(others, max_size=3)),
        (b"IDAT", zlib.compress(rows[draw(st.sampled_from([0, 0, 0, 1])) :])),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@st.composite
def saved(draw) -> bytes:
    """What PIL writes: one or several pages, turned or not."""
    mode = draw(st.sampled_from(MODES))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    image = Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width))
    image = image.convert(mode)
    exif = Image.Exif()
    if draw(st.booleans()):
        exif[0x0112] = draw(st.integers(0, 9))
    kind = draw(st.sampled_from(FORMATS))
    pages = [image.rotate(90)] * draw(st.integers(0, 2)) if kind in OF_PAGES else []
    file = io.BytesIO()
    options = {"save_all": True, "append_images": pages} if pages else {}
    try:
        image.save(file, kind, exif=exif, **options)
    except (OSError, ValueError):  # the format hasn't this mode
        file = io.BytesIO()
        image.convert("RGB").save(file, kind)
    return file.getvalue()


@st.composite
def damaged(draw) -> bytes:
    """An image file in which some bytes are others, or are missing."""
    data = bytearray(draw(st.one_of(saved(), pngs())))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data) - 1))
        data[place] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 255, 127, 128])))
    return bytes(data[: draw(st.one_of(st.just(len(data)), st.integers(0, len(data))))])


def write(data: bytes, folder: Path) -> Path:
    path = folder / "example.png"
    path.write_bytes(data)
    return path


@fuzz(damaged())
def test_pictures(data: bytes, folder: Path):
    path = write(data, folder)
    with refused_by_name(path):
        pixels = read_image(path)
        assert pixels.size > 0


@fuzz(damaged())
def test_maps_of_ids(data: bytes, folder: Path):
    path = write(data, folder)
    with refused_by_name(path):
        ids = read_ids(path)
        assert ids.min() >= 0


@fuzz(damaged())
def test_sizes(data: bytes, folder: Path):
    """The size is that of the pixels, wherever these can be read."""
    path = write(data, folder)
    with refused_by_name(path):
        assert image_size(path) == read_image(path).shape[:2]
        stored = read_image(path, upright=False)
        assert image_size(path, upright=False) == stored.shape[:2]


@fuzz(damaged())
def test_pages(data: bytes, folder: Path):
    path = write(data, folder)
    with refused_by_name(path):
        assert count_pages(path) >= 1
