"""Image files that claim gigabytes, never end, or aren't files: refused by name, at every entry."""

import os
import struct
import threading
import warnings
import zlib

import numpy as np
import pytest
from m2f_jax.eval.predictions.finding import check_png
from PIL import Image, ImageFile

from m2f_jax.cli import main
from m2f_jax.datasets.checking import check_examples
from m2f_jax.datasets.folder import folder_dataset
from m2f_jax.files import write_json
from m2f_jax.images import (
    ImageFileError,
    count_pages,
    image_size,
    read_ids,
    read_image,
    verified_size,
)
from m2f_jax.pixel_limit import MAX_PIXELS, max_pixels, set_max_pixels

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
READERS = (read_image, read_ids, image_size, verified_size, count_pages)
SIDES = [(13_000, 13_000), (9_400, 9_400), (20_000, 20_000), (2**31 - 1, 1)]  # height, width


@pytest.fixture(autouse=True)
def _the_default_limit():
    yield
    set_max_pixels(MAX_PIXELS)


def write_bomb(path, height, width):
    """A grey PNG of a few bytes that claims a size."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(10)))
        + chunk(b"IEND", b"")
    )
    return path


def save(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def told(height, width, limit=MAX_PIXELS):
    """What a message says of a bomb."""
    return (
        rf"\.png has {width} x {height} = {width * height} pixels, and {limit} are .*--max-pixels"
    )


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("size", SIDES)
def test_bombs_are_refused_before_they_are_decoded(tmp_path, read, size):
    path = write_bomb(tmp_path / "bomb.png", *size)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's own warning doesn't come either
        with pytest.raises(ImageFileError, match=told(*size)):
            read(path)


@pytest.mark.parametrize("read", READERS)
def test_the_limit_can_be_raised_and_lowered(tmp_path, read):
    path = save(tmp_path / "image.png", RGB[..., 0])
    with pytest.raises(ImageFileError, match=told(5, 7, 34)):
        read(path, max_pixels=34)
    set_max_pixels(34)
    with pytest.raises(ImageFileError, match=told(5, 7, 34)):
        read(path)
    assert np.size(read(path, max_pixels=35)) > 0
    set_max_pixels(35)
    assert np.size(read(path)) > 0


@pytest.mark.parametrize("count", [0, -1, 2**31])
def test_impossible_limits_are_refused(count):
    with pytest.raises(ValueError, match=f"max_pixels is from 1 to 2147483647, not {count}"):
        set_max_pixels(count)
    assert max_pixels() == MAX_PIXELS


def test_pillows_own_limit_is_neither_changed_nor_heeded(tmp_path, monkeypatch):
    path = save(tmp_path / "image.png", RGB)
    before = Image.MAX_IMAGE_PIXELS
    read_image(path)
    assert before == Image.MAX_IMAGE_PIXELS
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 3)
    np.testing.assert_array_equal(read_image(path), RGB)
    with pytest.raises(ImageFileError, match="the image has 7 x 5 = 35 pixels, and 34 are"):
        read_image(Image.fromarray(RGB), max_pixels=34)


@pytest.mark.parametrize("read", READERS)
def test_what_is_no_file_is_refused_at_once(tmp_path, read):
    loop, back = tmp_path / "loop.png", tmp_path / "back.png"
    loop.symlink_to(back)
    back.symlink_to(loop)
    myself = tmp_path / "myself.png"
    myself.symlink_to(myself)
    nothing = tmp_path / "nothing.png"
    nothing.symlink_to(tmp_path / "gone.png")
    pipe, folder = tmp_path / "pipe.png", tmp_path / "folder.png"
    os.mkfifo(pipe)
    folder.mkdir()
    below = save(tmp_path / "image.png", RGB) / "below.png"
    for path, message in [
        (loop, r"loop\.png can't be opened \(Too many levels"),
        (myself, r"myself\.png can't be opened \(Too many levels"),
        (nothing, r"nothing\.png is missing"),
        (pipe, r"pipe\.png is a pipe; expected an image file"),
        (folder, r"folder\.png is a folder; expected"),
        (below, r"below\.png is missing"),
        (tmp_path / ("x" * 300 + ".png"), r"x\.png can't be opened \(File name too long"),
        (tmp_path / "a\0b.png", r"can't be opened \((stat: )?embedded null"),
        ("/dev/zero", "/dev/zero is a device; expected"),
    ]:
        with pytest.raises((FileNotFoundError, ImageFileError), match=message):
            read(type(tmp_path)(path))


def test_programs_are_not_run(tmp_path):
    """Pillow would have Ghostscript run it."""
    path = tmp_path / "picture.eps"
    Image.fromarray(RGB).save(path)
    with pytest.raises(ImageFileError, match=r"picture\.eps can't be .* no kind that Pillow"):
        read_image(path)


@pytest.mark.parametrize("orientation", range(9))
def test_exif_is_heeded_or_not(tmp_path, orientation):
    """As Pillow turns images; also where EXIF comes behind the pixels of a PNG."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    for suffix in ("png", "tif", "webp"):
        path = tmp_path / f"image.{suffix}"
        Image.fromarray(RGB).save(
            path, exif=exif, **({"lossless": True} if suffix == "webp" else {})
        )
        if suffix == "png":
            move_behind_the_pixels(path)
        turned = read_image(path)
        assert image_size(path) == turned.shape[:2] == ((7, 5) if orientation >= 5 else (5, 7))
        np.testing.assert_array_equal(read_image(path, upright=False), RGB)
        assert image_size(path, upright=False) == (5, 7)
        again = {1: RGB, 2: RGB[:, ::-1], 3: np.rot90(RGB, 2), 6: np.rot90(RGB, -1)}
        if orientation in again:
            np.testing.assert_array_equal(turned, again[orientation])


def test_grey_tiffs_are_turned_upright(tmp_path):
    """Pillow would confuse height and width where it maps them into memory."""
    path = tmp_path / "image.tif"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(RGB[..., 0]).save(path, exif=exif)
    grey = np.repeat(RGB[..., :1], 3, axis=2)
    np.testing.assert_array_equal(read_image(path), np.rot90(grey, -1))
    np.testing.assert_array_equal(read_image(path, upright=False), grey)
    np.testing.assert_array_equal(read_ids(path), np.rot90(RGB[..., 0], -1))


def move_behind_the_pixels(png):
    """Moves the EXIF of a PNG to its end, where some programs write it."""
    data = png.read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + struct.unpack(">I", data[start : start + 4])[0]
    rest, exif = data[:start] + data[end:], data[start:end]
    png.write_bytes(rest[:-12] + exif + rest[-12:])


@pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
@pytest.mark.parametrize("pages", [1, 3])
def test_the_first_page_is_read_and_all_are_counted(tmp_path, suffix, pages):
    path = tmp_path / f"image.{suffix}"
    colors = [(200, 10, 10), (10, 200, 10), (10, 10, 200)]
    first, *others = [Image.new("RGB", (7, 5), color) for color in colors[:pages]]
    options = {"quality": 100} if suffix == "webp" else {}
    first.save(path, save_all=True, append_images=others, **options)
    assert count_pages(path) == pages
    assert np.abs(read_image(path).astype(int) - colors[0]).max() < 20


def test_icons_that_hold_more_than_they_say_are_refused(tmp_path):
    """The size of a PNG in an icon is known only when it is decoded."""
    path = tmp_path / "icon.ico"
    Image.new("RGB", (64, 64)).save(path, sizes=[(64, 64)])
    data = bytearray(path.read_bytes())
    data[6:8] = 8, 8  # the icon's directory
    path.write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ImageFileError, match=r"icon\.ico has 64 x 64 = 4096 pixels"):
            read_image(path, max_pixels=1000)


def test_large_images_are_decoded_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("m2f_jax.images.opening.LARGE", 34)
    path = save(tmp_path / "image.png", RGB)
    at_once, most, lock = [0], [0], threading.Lock()
    load = ImageFile.ImageFile.load

    def counted(image):
        with lock:
            at_once[0] += 1
            most[0] = max(most[0], at_once[0])
        threading.Event().wait(0.01)
        loaded = load(image)
        with lock:
            at_once[0] -= 1
        return loaded

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", counted)
    threads = [threading.Thread(target=read_image, args=(path,)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most[0] == 1


# --- Entry points --------------------------------------------------------------------------------


def own_data(folder):
    save(folder / "images" / "a.png", RGB)
    save(folder / "ids" / "a.png", np.full((5, 7), 1000, np.uint16))
    write_json(folder / "labels.json", [{"id": 1, "name": "cat", "is_thing": True}])


@pytest.mark.parametrize("size", SIDES[:2])
@pytest.mark.parametrize("kind", ["images", "ids"])
def test_training_names_them_before_the_first_step(tmp_path, kind, size):
    own_data(tmp_path)
    write_bomb(tmp_path / kind / "a.png", *size)
    with pytest.raises(ValueError, match=f"/{kind}/a{told(*size)}"):
        check_examples(folder_dataset(tmp_path, "instance"))


def test_training_names_pipes_and_loops(tmp_path):
    own_data(tmp_path)
    image = tmp_path / "images" / "a.png"
    image.unlink()
    image.symlink_to(image)
    with pytest.raises(ValueError, match=r"images/a\.png can't be opened"):
        check_examples(folder_dataset(tmp_path, "instance"))
    ids = tmp_path / "ids" / "a.png"
    image.unlink()
    save(image, RGB)
    ids.unlink()
    os.mkfifo(ids)
    with pytest.raises(ValueError, match=r"ids/a\.png is a pipe"):
        check_examples(folder_dataset(tmp_path, "instance"))


@pytest.fixture
def city(tmp_path):
    """A Cityscapes tree of one image, and perfect predictions for it."""
    name, truth = "town_000000_000000", tmp_path / "root" / "gtFine" / "val" / "town"
    save(tmp_path / "root" / "leftImg8bit" / "val" / "town" / f"{name}_leftImg8bit.png", RGB)
    ids = np.full((5, 7), 26000, np.uint16)
    save(truth / f"{name}_gtFine_instanceIds.png", ids)
    save(truth / f"{name}_gtFine_labelIds.png", (ids // 1000).astype(np.uint8))
    mask = save(tmp_path / "found" / f"{name}_0.png", np.full((5, 7), 255, np.uint8))
    (tmp_path / "found" / f"{name}_pred.txt").write_text(f"{mask.name} 26 0.9\n")
    return tmp_path / "root", mask


def score(root, mask, *options):
    return main(["eval", "cityscapes", str(root), "--predictions", str(mask.parent), *options])


@pytest.mark.parametrize("size", SIDES[1:3])
@pytest.mark.parametrize("which", ["prediction", "ground truth"])
def test_evaluation_names_them(city, capsys, which, size):
    root, mask = city
    path = mask if which == "prediction" else next(root.glob("gtFine/*/*/*_instanceIds.png"))
    write_bomb(path, *size)
    assert score(root, mask) == 1
    error = capsys.readouterr().err
    assert f"{path} has {size[1]} x {size[0]} = {size[0] * size[1]} pixels" in error
    assert error.count("\n") == 1


def test_evaluation_names_pipes_and_loops(city, capsys):
    root, mask = city
    assert score(root, mask) == 0
    assert score(root, mask, "--max-pixels", "34") == 1
    assert "has 7 x 5 = 35 pixels, and 34 are allowed" in capsys.readouterr().err
    mask.unlink()
    mask.symlink_to(mask)
    assert score(root, mask) == 1
    assert f"{mask} can't be opened (Too many levels" in capsys.readouterr().err
    mask.unlink()
    os.mkfifo(mask)
    assert score(root, mask) == 1
    assert f"{mask} is a pipe" in capsys.readouterr().err


def test_predictions_of_another_size_are_still_named(tmp_path):
    path = save(tmp_path / "mask.png", RGB[..., 0])
    check_png(path, (5, 7))
    with pytest.raises(ValueError, match=r"mask\.png has 5 x 7 pixels, but its image 7 x 5"):
        check_png(path, (7, 5))


def test_prediction_has_the_option(tmp_path, capsys):
    path = save(tmp_path / "image.png", RGB)
    out = str(tmp_path / "out")
    assert main(["predict", str(path), "--out", out, "--max-pixels", "34"]) == 1
    assert "image.png has 7 x 5 = 35 pixels, and 34 are allowed" in capsys.readouterr().err
    assert main(["predict", str(path), "--out", out, "--max-pixels", "0"]) == 1
    assert "--max-pixels must be from 1 to 2147483647, not 0" in capsys.readouterr().err
