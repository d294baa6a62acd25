import numpy as np
import pytest
import scipy.ndimage
import skimage.data

from m2f_jax.inference.results import InstanceSegmentation, PanopticSegmentation, Segment
from m2f_jax.visualization import label_placement
from m2f_jax.visualization.color import VIVID_COLORS, class_colors, oklab, thing_colors
from m2f_jax.visualization.drawing import (
    draw_instances,
    draw_panoptic,
    draw_semantic,
    paint,
    short_name,
)
from m2f_jax.visualization.label_placement import NO_OBJECT, large_parts, place_labels
from m2f_jax.visualization.parts import boxes_of, connected_parts

NAMES = ("cup", "toilet, can, commode, crapper", "sky")
FORMS = [(60, 16), (46, 13), (24, 13)]


def ellipses(centres, radii, size):
    y, x = np.ogrid[: size[0], : size[1]]
    return np.array(
        [
            ((x - cx) / r) ** 2 + ((y - cy) / (0.8 * r)) ** 2 < 1
            for (cx, cy), r in zip(centres, radii, strict=True)
        ]
    ).reshape(-1, *size)


def instances(masks):
    count = len(masks)
    return InstanceSegmentation.from_masks(
        scores=np.linspace(1, 0, count, dtype=np.float32),
        labels=np.arange(count) % 2,
        masks=masks,
        queries=np.arange(count),
    )


def crowd(count, size, largest, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.integers(0, size[::-1], (count, 2))
    return ellipses(centres, rng.integers(3, largest, count), size)


def owners_of(masks):
    owners = np.full(masks.shape[1:], NO_OBJECT, np.int32)
    for i in np.argsort(-masks.sum(axis=(1, 2))):
        owners[masks[i]] = i
    return owners


def test_only_objects_and_labels_near_them_change():
    image = skimage.data.coffee()
    before = image.copy()
    masks = ellipses([(120, 150), (480, 300)], [70, 30], image.shape[:2])
    picture = draw_instances(image, instances(masks), NAMES)
    assert (picture.shape, picture.dtype) == (image.shape, np.uint8)
    np.testing.assert_array_equal(image, before)
    changed = (picture != image).any(axis=-1)
    assert changed[masks.any(axis=0)].mean() > 0.99
    near = np.zeros(changed.shape, bool)
    near[60:240, 20:220] = near[230:370, 360:600] = True
    assert not changed[~near].any()


def test_small_objects_lie_over_large_ones():
    image = np.full((100, 100, 3), 128, np.uint8)
    masks = ellipses([(50, 50), (50, 50)], [40, 20], (100, 100))
    picture = draw_instances(image, instances(masks[::-1]), NAMES)
    again = draw_instances(image, instances(masks), NAMES)
    assert (picture[50, 35] != picture[50, 20]).any()
    assert (again[50, 35] != again[50, 20]).any()


def test_outline_is_the_objects_color_inside_its_border():
    owners = np.full((400, 400), NO_OBJECT, np.int32)
    owners[100:300, 100:300] = 0
    color = np.array([[255, 0, 0]], np.uint8)
    image = np.full((400, 400, 3), 100, np.uint8)
    picture = paint(image, owners, color, np.array([0.5]))
    line = (picture == [255, 0, 0]).all(axis=-1)
    np.testing.assert_array_equal(np.flatnonzero(line[200]), [100, 101, 298, 299])
    np.testing.assert_array_equal(picture[owners == NO_OBJECT], image[owners == NO_OBJECT])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("size", "largest"), [((300, 400), 30), ((640, 900), 60)])
def test_labels_cover_nothing_but_their_own_object(size, largest, seed):
    owners = owners_of(crowd(40, size, largest, seed))
    plates = place_labels(owners, dict.fromkeys(range(40), FORMS), may_leave=True)
    assert len(plates) > 20
    covered = np.zeros(size, int)
    for i, plate in plates.items():
        assert (plate.width, plate.height) == FORMS[plate.form]
        assert min(plate.top, plate.left) >= 0
        window = np.s_[plate.top : plate.top + plate.height, plate.left : plate.left + plate.width]
        assert covered[window].shape == (plate.height, plate.width)
        assert set(np.unique(owners[window])) <= {NO_OBJECT, i}
        covered[window] += 1
        if plate.target is not None:
            x, y = plate.target
            assert i in owners[y - 2 : y + 3, x - 2 : x + 3]
    assert covered.max() == 1


def test_labels_stand_on_objects_that_have_room_and_beside_others():
    owners = np.full((300, 400), NO_OBJECT, np.int32)
    owners[20:200, 20:200] = 0
    owners[240:250, 300:310] = 1
    plates = place_labels(owners, {0: FORMS, 1: FORMS}, may_leave=True)
    large, small = plates[0], plates[1]
    assert large.form == 0
    assert 20 <= large.left <= 140
    assert 20 <= large.top <= 184
    assert small.top + small.height <= 241
    assert small.top + small.height >= 230
    assert large.target is small.target is None
    assert list(place_labels(owners, {0: FORMS, 1: FORMS}, may_leave=False)) == [0]


def test_labels_without_a_place_are_left_out():
    owners = np.zeros((100, 100), np.int32)
    owners[45:55, 45:55] = 1
    assert list(place_labels(owners, {0: FORMS, 1: FORMS}, may_leave=True)) == [0]


def test_parts_are_connected_and_large():
    owners = np.full((60, 90), NO_OBJECT, np.int32)
    owners[:, :40] = 4
    owners[:50, 50:60] = owners[:50, 70:80] = owners[40:50, 50:80] = 4  # one part, like a U
    owners[55, 85] = 4
    owners[2, 85] = 7
    parts, objects = large_parts(owners)
    np.testing.assert_array_equal(objects, [4, 4, 7])
    assert set(np.unique(parts[:, :40])) == {0}
    assert set(np.unique(parts[:50, 50:80][owners[:50, 50:80] == 4])) == {1}
    assert (parts[2, 85], parts[55, 85], parts[55, 45]) == (2, 3, NO_OBJECT)


def parts_by_scipy(owners):
    """All connected parts of `owners`, the largest first, and the object of each."""
    found = []
    for index, box in enumerate(scipy.ndimage.find_objects(owners + 1)):
        labels, count = scipy.ndimage.label(owners == index)
        found += [(index, labels == k + 1) for k in range(count if box else 0)]
    found.sort(key=lambda part: -part[1].sum())
    parts = np.full(owners.shape, NO_OBJECT)
    for number, (_, mask) in enumerate(found):
        parts[mask] = number
    return parts, [index for index, _ in found]


@pytest.mark.parametrize("seed", range(20))
def test_parts_and_boxes_are_those_of_scipy(seed, monkeypatch):
    monkeypatch.setattr(label_placement, "LARGE_PART", 0)  # all are
    rng = np.random.default_rng(seed)
    small = rng.integers(-1, seed % 5, rng.integers(1, 30, 2)).astype(np.int32)
    owners = np.kron(small, np.ones((1, 1 + seed % 3), np.int32))
    for theirs, ours in zip(parts_by_scipy(owners), large_parts(owners), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert boxes_of(owners, 6) == scipy.ndimage.find_objects(owners + 1, 6)


def test_a_part_may_wind():
    winding = np.zeros((61, 40), np.int32)
    winding[1::4, :-1] = winding[3::4, 1:] = 1  # walls with a gap at one end, then at the other
    parts, owners = connected_parts(winding)
    np.testing.assert_array_equal(np.bincount(parts.ravel()), [(winding == 0).sum(), *[39] * 30])
    np.testing.assert_array_equal(owners, [0, *[1] * 30])


def test_colors_are_distinct():
    for colors in (VIVID_COLORS[:20], class_colors(tuple("abcdefghijklmnopqrst"))):
        lab = oklab(colors)
        distance = np.linalg.norm(lab[:, None] - lab, axis=-1)
        assert distance[~np.eye(20, dtype=bool)].min() > 0.08


def test_neighbours_have_unlike_colors():
    image = skimage.data.coffee()
    boxes = np.array([[40 * i, 100, 40 * i + 38, 140] for i in range(14)])
    lab = oklab(thing_colors(image, boxes))
    assert np.linalg.norm(lab[1:] - lab[:-1], axis=1).min() > 0.2


def test_classes_have_familiar_colors():
    road, sky, tree = class_colors(("road", "sky-other", "tree, bush")).astype(int)
    assert sky.argmax() == 2
    assert tree.argmax() == 1
    assert road.argmin() == 1


def test_panoptic_leaves_void_and_shows_segments():
    image = skimage.data.coffee()
    segment_map = np.zeros(image.shape[:2], np.int32)
    segment_map[:200] = 9
    segment_map[50:150, 100:300] = 4
    segments = (
        Segment(id=4, label=0, is_thing=True, score=0.9),
        Segment(id=9, label=2, is_thing=False, score=0.8),
    )
    panoptic = PanopticSegmentation(segment_map=segment_map, segments=segments)
    changed = (draw_panoptic(image, panoptic, NAMES) != image).any(axis=-1)
    assert changed[:200].mean() > 0.99
    assert not changed[200:].any()


def test_semantic_leaves_negative_labels():
    image = skimage.data.coffee()
    labels = np.full(image.shape[:2], -1)
    labels[:, :300] = 2
    changed = (draw_semantic(image, labels, NAMES) != image).any(axis=-1)
    assert changed[:, :300].mean() > 0.99
    assert not changed[:, 300:].any()


@pytest.mark.parametrize(
    "masks",
    [
        np.zeros((0, 32, 32), bool),
        np.zeros((2, 32, 32), bool),
        np.ones((2, 32, 32), bool),
        np.arange(1024).reshape(1, 32, 32) == 1023,
        np.arange(1024).reshape(1, 32, 32) == 500,
        crowd(100, (97, 131), 60),
    ],
    ids=["none", "empty", "everything", "corner pixel", "one pixel", "hundred overlap"],
)
def test_extreme_instances(masks):
    image = np.zeros((*masks.shape[1:], 3), np.uint8)
    picture = draw_instances(image, instances(masks), NAMES)
    assert picture.any() == masks.any()


def test_unknown_classes_and_sizes_raise():
    image = np.zeros((32, 32, 3), np.uint8)
    masks = np.ones((2, 32, 32), bool)
    with pytest.raises(IndexError):
        draw_instances(image, instances(masks), ["cup"])
    with pytest.raises(IndexError):
        draw_semantic(image, np.full((32, 32), 3), NAMES)
    with pytest.raises(ValueError, match=r"\(32, 32, 3\).*\(16, 32, 3\)"):
        draw_instances(image[:16], instances(masks), NAMES)


def test_long_names_are_cut():
    assert short_name(NAMES[1]) == "toilet"
    assert short_name("a very long name of a class, x") == "a very long name of a c…"
