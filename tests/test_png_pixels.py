"""PNGs of all kinds, sound and damaged, read as Pillow reads them."""

import io
import struct
import types
import zlib

import numpy as np
import pytest
from m2f_jax.eval.predictions.cityscapes import read_mask
from PIL import Image

from m2f_jax.images import ImageFileError, png_pixels, read_ids
from m2f_jax.masks.rle import decode_rle, encode_rle, encode_rows

# The faster inflation where it is installed, and its route with Python's.
NAMES = ("decompressobj", "crc32", "adler32", "error")
ANOTHER = types.SimpleNamespace(**{name: getattr(zlib, name) for name in NAMES})
INFLATERS = {"zlib": zlib, "another": ANOTHER, "installed": png_pixels.inflater}
KINDS = [
    *((0, bits) for bits in (1, 2, 4, 8, 16)),
    *((3, bits) for bits in (1, 2, 4, 8)),
    *((kind, bits) for kind in (2, 4, 6) for bits in (8, 16)),
]
CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}


@pytest.fixture(params=INFLATERS)
def inflater(request, monkeypatch):
    monkeypatch.setattr(png_pixels, "inflater", INFLATERS[request.param])
    return INFLATERS[request.param]


def chunk(name, data=b""):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(kind, bits, rows, size, interlaced=0, others=()):
    header = struct.pack(">IIBBBBB", *size[::-1], bits, kind, 0, 0, interlaced)
    palette = [chunk(b"PLTE", bytes(range(48)) * 16)] if kind == 3 else []
    data = zlib.compress(rows)
    parts = [data[:9], data[9:]]  # in two chunks
    chunks = [chunk(b"IHDR", header), *others, *palette, *(chunk(b"IDAT", x) for x in parts)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks) + chunk(b"IEND")


def filtered_rows(rng, kind, bits, size, density):
    """Random rows after random filters; most of what they say may be nothing."""
    row = -(-size[1] * bits * CHANNELS[kind] // 8)
    body = rng.integers(0, 256, (size[0], row), np.uint8)
    if kind == 3 and bits == 8:
        body %= 200
    body *= rng.random(body.shape) < density
    # Black above, so that what begins below it goes through every filter.
    body[: size[0] // 3] = 0
    filters = rng.choice([0, 0, 1, 2, 2, 3, 4], (size[0], 1)).astype(np.uint8)
    return np.concatenate([filters, body], axis=1).tobytes()


def outcome(read, path):
    try:
        found = read(path)
    except ImageFileError as error:
        return str(error)
    return found if isinstance(found, dict) else (found.dtype.name, found.tolist())


def by_pillow(read, path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(png_pixels, "plain_png", lambda _: None)
        return outcome(read, path)


def readers():
    yield read_mask
    for encoding in (None, "grey", "rgb"):
        yield lambda path, encoding=encoding: read_ids(path, encoding)


@pytest.mark.usefixtures("inflater")
@pytest.mark.parametrize(("kind", "bits"), KINDS)
def test_every_kind_is_read_as_by_pillow(tmp_path, monkeypatch, kind, bits):
    rng, path = np.random.default_rng(bits * 10 + kind), tmp_path / "map.png"
    for size in ((1, 1), (70, 33), (40, 8)):
        for density in (0, 0.01, 1):
            path.write_bytes(png(kind, bits, filtered_rows(rng, kind, bits, size, density), size))
            for read in readers():
                assert outcome(read, path) == by_pillow(read, path, monkeypatch)


def taken(data):
    with Image.open(io.BytesIO(data)) as image:
        return png_pixels.mask_rows(image) is not None, png_pixels.stored(image) is not image


def test_what_is_plain_is_read_faster(inflater):
    def of(kind, bits, filters, **options):
        row = bytes(-(-16 * bits * CHANNELS[kind] // 8))
        data = b"".join(bytes([f]) + row for f in filters)
        return taken(png(kind, bits, data, (len(filters), 16), **options))

    fast = inflater is not zlib
    assert of(0, 8, [0, 1, 2, 4]) == (True, fast)
    assert of(0, 1, [0] * 40) == (True, fast)
    assert of(0, 16, [2]) == of(2, 8, [4]) == of(3, 8, [1]) == (False, fast)
    assert of(0, 8, [0], others=[chunk(b"gAMA", bytes(4))]) == (True, fast)
    assert of(0, 8, [0], others=[chunk(b"tRNS", bytes(2))]) == (False, False)
    assert of(0, 8, [0], interlaced=1) == (False, False)


@pytest.mark.usefixtures("inflater")
def test_damage_is_refused_as_by_pillow(tmp_path, monkeypatch):
    rng, path = np.random.default_rng(0), tmp_path / "map.png"
    for kind, bits in ((0, 8), (2, 8)):
        rows = filtered_rows(rng, kind, bits, (9, 20), 0.1)
        whole = png(kind, bits, rows, (9, 20))
        wrong = bytearray(rows)
        wrong[5 * len(rows) // 9] = 7  # no filter
        damaged = [whole[:k] for k in range(8, len(whole), 5)]
        damaged += [whole[:k] + bytes([whole[k] ^ 1]) + whole[k + 1 :] for k in range(30, 120, 4)]
        damaged += [png(kind, bits, bytes(wrong), (9, 20)), whole + b"more", whole[:-12]]
        damaged += [png(kind, bits, rows[:-1], (9, 20)), png(kind, bits, rows + b"12", (9, 20))]
        for data in damaged:
            path.write_bytes(data)
            for read in readers():
                assert outcome(read, path) == by_pillow(read, path, monkeypatch)


@pytest.mark.usefixtures("inflater")
def test_the_masks_of_the_command_line_are_taken(tmp_path):
    rows, columns = np.mgrid[:300, :400]
    mask = (rows - 150) ** 2 + (columns - 170) ** 2 < 90**2
    for pixels in (mask, mask.view(np.uint8) * np.uint8(255)):
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        assert taken(file.getvalue())[0]
        (tmp_path / "mask.png").write_bytes(file.getvalue())
        assert read_mask(tmp_path / "mask.png") == encode_rle(mask)


def test_rows_of_a_mask_are_encoded_as_the_whole():
    mask = np.random.default_rng(0).random((50, 7)) < 0.5
    mask[:20], mask[41:] = False, False
    assert encode_rows(mask[16:45], 16, 50) == encode_rle(mask)
    np.testing.assert_array_equal(decode_rle(encode_rle(mask)["counts"].encode(), (50, 7)), mask)
