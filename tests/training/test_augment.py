"""Training images changed at random: geometry of images and maps, colors, recipes."""

import colorsys
import itertools
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.streets import street_scene
from m2f_jax.training.augment import (
    AUGMENTATIONS,
    GREY,
    Augmentation,
    ColorJitter,
    LargeScaleJitter,
    RandomCrop,
    RandomPart,
    Window,
    change_colors,
    crop_image,
    crop_map,
    random_crops,
    scale_values,
)

SIZE = (60, 100)


def noise(size, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)


def painted(size=SIZE):
    """An image whose color tells the segment of every pixel: red and blue boxes on black."""
    regions = np.zeros(size, np.int32)
    regions[10:40, 20:70] = 1
    regions[30:55, 60:95] = 2
    colors = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
    segments = Segments(regions, np.eye(2, 3, 1, dtype=bool), np.array([0, 1], np.int32))
    return Example(colors[regions], segments)


@pytest.fixture(scope="module")
def scene():
    scene = street_scene(0, 0, (128, 256))
    segments = Segments.from_ids(scene.instance_ids, lambda id_: (id_ // 1000, id_))
    return Example(scene.image, segments)


@pytest.mark.parametrize(
    ("resized", "top", "left"),
    [
        ((60, 100), 0, 0),
        ((60, 100), 7, 13),
        ((91, 151), 31, 50),
        ((47, 79), 0, 5),
        ((20, 33), 0, 0),
    ],
)
def test_a_crop_is_what_resizing_the_whole_image_gives(resized, top, left):
    image, size = noise(SIZE), (40, 64)
    whole = Image.fromarray(image).resize(resized[::-1], Image.Resampling.BILINEAR)
    expected = np.asarray(whole)[top : top + size[0], left : left + size[1]]
    got = crop_image(image, Window(resized, top, left), size)
    assert got.shape == expected.shape
    assert np.abs(got.astype(int) - expected).max() <= 2  # of noise

    ids = np.random.default_rng(1).integers(0, 99, SIZE, np.int32)
    nearest = Image.fromarray(ids).resize(resized[::-1], Image.Resampling.NEAREST)
    expected = np.asarray(nearest)[top : top + size[0], left : left + size[1]]
    got = crop_map(ids, Window(resized, top, left), size)
    assert got.shape == expected.shape
    assert (got != expected).mean() < 0.05  # PIL's own rounding, half way between two pixels


@pytest.mark.parametrize(
    "crop",
    [
        RandomCrop(shortest_edges=(40, 60, 90), longest_edge=200),
        LargeScaleJitter(scales=(0.3, 2.0)),
    ],
)
def test_image_and_masks_stay_aligned(crop):
    augmentation = Augmentation(size=(50, 70), crop=crop)
    seen = set()
    for seed in range(40):
        image, segments = augmentation(painted(), np.random.default_rng(seed))
        assert image.shape == (50, 70, 3)
        assert image.dtype == np.uint8
        red, blue = segments.masks
        grey = (image == GREY).all(axis=2)
        shown = [(image[..., channel] > 127) & ~grey for channel in (0, 2)]
        outline = 0.05 * image[..., 0].size  # where colors mix
        assert np.count_nonzero(shown[0] != red) + np.count_nonzero(shown[1] != blue) < outline
        assert not (grey & (red | blue)).any()
        if red.any() and blue.any():
            columns = [np.flatnonzero(mask.any(axis=0)).mean() for mask in (red, blue)]
            seen.add(columns[0] < columns[1])
    assert seen == {True, False}  # mirrored or not


def test_a_mirror_image_is_exact():
    crop = RandomCrop(shortest_edges=(60,), longest_edge=200)
    example = Example(noise(SIZE), painted().segments)
    rng = np.random.default_rng
    plain = Augmentation(size=SIZE, crop=crop, flip=0.0)(example, rng(0))
    mirrored = Augmentation(size=SIZE, crop=crop, flip=1.0)(example, rng(0))
    np.testing.assert_array_equal(plain.image, example.image)
    np.testing.assert_array_equal(plain.segments.regions, example.segments.regions)
    np.testing.assert_array_equal(mirrored.image, example.image[:, ::-1])
    np.testing.assert_array_equal(mirrored.segments.masks, example.segments.masks[:, :, ::-1])


def test_crops_lie_everywhere():
    crop = RandomCrop(shortest_edges=(60, 120), longest_edge=400)
    rng = np.random.default_rng(0)
    windows = [crop.draw(SIZE, (58, 97), rng) for _ in range(600)]
    assert {w.resized for w in windows} == {(60, 100), (120, 200)}
    small = {(w.top, w.left) for w in windows if w.resized == (60, 100)}
    assert small == set(itertools.product(range(3), range(4)))
    assert max(w.top for w in windows) >= 60
    assert max(w.left for w in windows) >= 100
    long = {crop.draw((60, 400), (58, 97), rng).resized for _ in range(20)}
    assert long == {(60, 400)}  # an edge of 120 would make it longer than 400


def test_large_scale_jitter_covers_its_scales():
    jitter = LargeScaleJitter(scales=(0.1, 2.0))
    rng = np.random.default_rng(0)
    windows = [jitter.draw((300, 400), (1024, 1024), rng) for _ in range(500)]
    widths = np.array([w.resized[1] for w in windows])
    assert 102 <= widths.min() < 130
    assert 2000 < widths.max() <= 2048
    assert abs(widths.mean() / 1024 - 1.05) < 0.1
    for (height, width), top, left, _ in windows:
        assert abs(height / width - 0.75) < 0.01
        assert 0 <= top <= max(height - 1024, 0)
        assert 0 <= left <= max(width - 1024, 0)
        assert width > 1024 or (top, left) == (0, 0)


def test_half_of_the_images_are_parts_of_them():
    """DETR's sizes; a part is where it would be if the image had been resized before it was cut."""
    crop = RandomPart(
        shortest_edges=(480, 800), longest_edge=1333, first_edges=(400, 600), sides=(384, 600)
    )
    rng = np.random.default_rng(0)
    windows = [crop.draw((480, 640), (1333, 1333), rng) for _ in range(400)]
    whole = [w.resized for w in windows if w.most is None]
    assert set(whole) == {(480, 640), (800, 1067)}
    assert 170 < len(whole) < 230
    parts = [w for w in windows if w.most is not None]
    assert {min(w.most) for w in parts} == {480, 800}
    for (height, width), top, left, (rows, columns) in parts:
        assert 0 <= top <= height - rows
        assert 0 <= left <= width - columns
        first = 400 / 480, 600 / 480
        sides = [[480 * x * rows / height, 640 * x * columns / width] for x in first]
        assert any(min(s) > 383 and max(s) < 601 for s in sides)
    assert len({w.top / w.resized[0] for w in parts}) > 100
    assert max(w.left / w.resized[1] for w in parts) > 0.4
    example = Augmentation(size=(1333, 1333), crop=crop, flip=0.0)(painted(), rng)
    assert (example.image[-1] == GREY).all()
    assert not example.segments.regions[-1].any()


def test_what_surrounds_a_part_is_filled():
    crop = RandomPart(
        shortest_edges=(240,), longest_edge=1333, first_edges=(300,), sides=(200, 200)
    )
    augmentation, rng = Augmentation(size=(400, 400), crop=crop, flip=0.0), np.random.default_rng(0)
    found = set()
    for _ in range(8):
        filled = (augmentation(painted(), rng).image == GREY).all(axis=-1)
        found.add((int((~filled.all(axis=1)).sum()), int((~filled.all(axis=0)).sum())))
    assert found == {(240, 240), (240, round(240 * SIZE[1] / SIZE[0]))}


@pytest.mark.parametrize(
    ("saturation", "hue"), [(1.0, 7), (1.3, 0), (0.6, -18), (1.5, 18), (0.5, 1), (1.0, -90)]
)
def test_colors_change_as_colorsys_computes(saturation, hue):
    image = noise((12, 20))
    image[0] = image[0, :, :1]  # greys
    image[1, :3] = [[255, 255, 255], [0, 0, 0], [255, 0, 0]]
    expected = np.empty(image.shape)
    for y, x in np.ndindex(image.shape[:2]):
        h, s, v = colorsys.rgb_to_hsv(*(image[y, x] / 255))
        expected[y, x] = colorsys.hsv_to_rgb((h + hue / 180) % 1, min(s * saturation, 1), v)
    changed = change_colors(image, saturation, hue)
    assert changed.dtype == np.uint8
    assert np.abs(changed - expected * 255).max() <= 0.501


def test_values_are_scaled_and_cut_off():
    image = noise((9, 9))
    np.testing.assert_array_equal(scale_values(image, 1.0, 0.0), image)
    for factor, added in [(1.5, 0.0), (0.5, 0.0), (1.0, 31.5), (1.0, -32.0)]:
        expected = np.clip(image.astype(np.float32) * factor + added, 0, 255).astype(np.uint8)
        np.testing.assert_array_equal(scale_values(image, factor, added), expected)


def test_color_jitter_draws_within_its_ranges():
    calls = {"scale": [], "change": []}

    def scale(image, factor, added):
        calls["scale"].append((factor, added))
        return image

    def change(image, saturation, hue):
        calls["change"].append((saturation, hue))
        return image

    rng = np.random.default_rng(0)
    where = "m2f_jax.training.augment"
    with mock.patch(f"{where}.scale_values", scale), mock.patch(f"{where}.change_colors", change):
        for _ in range(2000):
            ColorJitter()(noise((1, 1)), rng)
    first, second = np.array(calls["scale"][::2]), np.array(calls["scale"][1::2])
    saturation, hue = np.array(calls["change"]).T
    brightness, contrast = first[:, 1], second[:, 0]
    assert (first[:, 0] == 1).all()
    assert (second[:, 1] == 0).all()
    for values, least, greatest, nothing in [
        (brightness, -32, 32, 0),
        (contrast, 0.5, 1.5, 1),
        (saturation, 0.5, 1.5, 1),
        (hue, -18, 18, 0),
    ]:
        changed = values[values != nothing]
        assert abs(len(changed) / len(values) - 0.5) < 0.05
        assert least <= changed.min() < least + 0.02 * (greatest - least)
        assert greatest - 0.02 * (greatest - least) < changed.max() <= greatest
    assert set(hue) == set(range(-18, 19))


def test_contrast_comes_before_or_after_the_hue():
    image = noise((8, 8))
    jitter = ColorJitter(brightness=0.0, contrast=(0.5, 0.5), saturation=(1.5, 1.5), hue=0)
    darker, stronger = scale_values(image, 0.5, 0.0), change_colors(image, 1.5, 0)
    orders = {
        array.tobytes()
        for array in (
            image,
            darker,
            stronger,
            change_colors(darker, 1.5, 0),
            scale_values(stronger, 0.5, 0.0),
        )
    }
    assert len(orders) == 5
    assert {jitter(image, np.random.default_rng(k)).tobytes() for k in range(60)} == orders


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_recipes_are_deterministic(name, scene):
    augmentation = AUGMENTATIONS[name]
    once, again, other = (augmentation(scene, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert once.image.shape == (*augmentation.size, 3)
    assert once.segments.regions.shape == augmentation.size
    np.testing.assert_array_equal(once.image, again.image)
    np.testing.assert_array_equal(once.segments.regions, again.segments.regions)
    assert not np.array_equal(once.image, other.image)


def test_recipes_are_the_authors():
    cityscapes = AUGMENTATIONS["cityscapes"].crop
    assert cityscapes.shortest_edges[::5] == (512, 1024, 1536, 2048)
    assert (len(cityscapes.shortest_edges), cityscapes.longest_edge) == (16, 4096)
    assert AUGMENTATIONS["cityscapes"].size == (512, 1024)
    assert random_crops((512, 512), 512, 2048).crop.shortest_edges[:3] == (256, 307, 358)
    assert AUGMENTATIONS["coco"].colours is None
    assert AUGMENTATIONS["coco-stuff"].crop.shortest_edges[::5] == (320, 640, 960)
    assert len(AUGMENTATIONS["coco-maskformer"].crop.shortest_edges) == 11
