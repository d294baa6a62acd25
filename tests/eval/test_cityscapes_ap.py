import itertools
import json
import math
import warnings
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP, Regions, count_on_device
from m2f_jax.eval.metrics.instances.matching import OVERLAPS

from m2f_jax.rle import encode_rle
from tests.conftest import GOLDEN

CLASSES = ["person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle"]
CAR = CLASSES.index("car")
ROAD = 7


@dataclass
class Image:
    instance_ids: np.ndarray
    masks: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    distances: dict | None = None

    def add_to(self, metric, **kwargs):
        metric.add(
            self.instance_ids,
            self.masks,
            self.labels,
            self.scores,
            distances=self.distances,
            **kwargs,
        )


@dataclass
class GoldenScene:
    images: list[Image]
    ap_matrix: np.ndarray
    averages: np.ndarray
    official_fails: bool


def load_golden():
    """Random scenes of one to three images of 64 x 96, and what the official script says of them.

    The script is cityscapesScripts 2.3.0, untouched, with numpy 1.26.4 on x86-64 (AVX-512), called
    as its `evaluateImgLists` on PNG and text files written for the purpose, with a new cache file
    each time. Scenes hold void, groups, small objects, caravans, several classes, and predictions
    that are perfect, shifted, doubled, of wrong classes, random, empty, of labels that aren't
    evaluated, of exactly 9/20 to 20/20 of an object, and with as much on void or a group; scores
    come in ties and may be negative or infinite. `distances` went into the script's
    gtInstances.json, with distanceAvailable on. Where the script fails (`official_fails`, an
    IndexError), the numbers are those of the script with `yTrueSortedCumsum[-1]` replaced by 0 for
    an empty curve. `dots` are what numpy.dot gave on that machine; see `same_dot_products`.
    """
    arrays = dict(np.load(GOLDEN / "cityscapes_ap.npz"))
    height, width = arrays["instance_ids"].shape[1:]
    masks = np.unpackbits(arrays["packed_masks"], axis=-1, count=width).view(bool)
    ends = np.cumsum(arrays["masks_per_image"])
    assert masks.shape == (ends[-1], height, width)
    images = []
    for i, (end, count) in enumerate(zip(ends, arrays["masks_per_image"], strict=True)):
        which = slice(end - count, end)
        rows = arrays["distances"][arrays["distances"][:, 0] == i]
        images.append(
            Image(
                arrays["instance_ids"][i],
                masks[which],
                arrays["labels"][which],
                arrays["scores"][which],
                {int(id_): (metres, confidence) for _, id_, metres, confidence in rows},
            )
        )
    scenes = []
    images = iter(images)
    for i, count in enumerate(arrays["images_per_scene"]):
        scene = list(itertools.islice(images, int(count)))
        if not arrays["has_distances"][i]:
            for image in scene:
                image.distances = None
        scenes.append(
            GoldenScene(
                scene,
                arrays["ap_matrix"][i],
                arrays["averages"][i],
                bool(arrays["official_fails"][i]),
            )
        )
    return scenes, arrays["dots"]


def same_dot_products(dots):
    """Whether this machine adds up products in the order of the one that made the golden data.

    The official script leaves its last sum to `np.dot`, whose order depends on the processor: the
    last bit of its own results does, too.
    """
    i = np.arange(1, 2081)
    a, b = i * 7919 % 1009 / 1009, i * 104729 % 997 / 997
    ends = np.cumsum(np.arange(1, 65))
    pieces = [slice(end - n, end) for n, end in enumerate(ends, start=1)]
    return all(np.dot(a[p], b[p]) == dot for p, dot in zip(pieces, dots, strict=True))


def assert_same_numbers(got, want, exact):
    if exact:
        np.testing.assert_array_equal(got, want)
    else:
        np.testing.assert_allclose(got, want, rtol=0, atol=4 * np.finfo(float).eps)


@pytest.mark.parametrize("route", ["masks", "rles", "device"])
def test_numbers_are_the_official_ones_to_the_last_bit(route):
    scenes, dots = load_golden()
    exact = same_dot_products(dots)
    for scene in scenes:
        metric = CityscapesInstanceAP()
        for image in scene.images:
            if route == "masks":
                image.add_to(metric)
            elif route == "rles":
                image.masks = [encode_rle(mask) for mask in image.masks]
                image.instance_ids = Regions.of(image.instance_ids)
                image.add_to(metric)
            else:
                add_by_device(metric, image)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = metric.result()
        assert bool(warned) == scene.official_fails
        numbers = [result.ap, result.ap50, result.ap100m, result.ap50m, result.ap5050m]
        numbers = [math.nan if number is None else number for number in numbers]
        assert_same_numbers(result.ap_matrix, scene.ap_matrix[0], exact)
        assert_same_numbers(numbers, scene.averages, exact)
        if scene.images[0].distances is not None:
            assert_same_numbers(result.near[100], scene.ap_matrix[1], exact)
            assert_same_numbers(result.near[50], scene.ap_matrix[2], exact)


def add_by_device(metric, image):
    regions = Regions.of(image.instance_ids)
    packed = np.zeros((64, 128, 16), np.uint8)  # so that all images need one compilation
    packed[: len(image.masks), :64, :12] = np.packbits(image.masks, axis=-1)
    counts = count_on_device(
        jnp.asarray(packed),
        jnp.asarray(regions.index_map((128, 128))),
        num_columns=64,
    )
    kept = slice(len(image.masks))
    metric.add_table(
        regions,
        counts.table[kept],
        counts.areas[kept],
        image.labels,
        image.scores,
        distances=image.distances,
    )


# Hand cases: one row of cells, each 100 pixels wide, so that areas are in hundreds.


def ids_of(*cells):
    """An image of ten rows whose cells, ten pixels wide, have these ids."""
    return np.repeat(np.array([cells]), 10, axis=0).repeat(10, axis=1)


def masks_of(ids, *columns):
    """Masks from (first, last) columns of pixels, last not included."""
    masks = np.zeros((len(columns), *ids.shape), bool)
    for mask, (first, last) in zip(masks, columns, strict=True):
        mask[:, first:last] = True
    return masks


def evaluate(ids, columns, scores, labels=None, **kwargs):
    metric = CityscapesInstanceAP()
    labels = [26] * len(columns) if labels is None else labels
    metric.add(ids, masks_of(ids, *columns), labels, scores, **kwargs)
    return metric.result()


def car_ap(*args, **kwargs):
    return evaluate(*args, **kwargs).ap_matrix[CAR]


def test_a_match_must_exceed_the_overlap():
    ids = ids_of(ROAD, 26000, 26000, ROAD)  # 20 columns
    for columns in range(11, 21):
        reached = columns / 20 > OVERLAPS
        np.testing.assert_array_equal(
            car_ap(ids, [(10, 10 + columns)], [0.5]), np.where(reached, 1.0, 0.0)
        )
    assert car_ap(ids, [(10, 20)], [0.5])[0] == 0  # exactly half
    assert car_ap(ids, [(10, 22)], [0.5])[2] == 0  # 0.6 isn't above 0.6000000000000001
    assert OVERLAPS[2] > 0.6


def test_void_stays_in_the_union():
    ids = ids_of(0, 26000, 26000, ROAD)
    ap = car_ap(ids, [(0, 30)], [0.5])  # 2/3, although the rest is void
    np.testing.assert_array_equal(ap > 0, OVERLAPS < 2 / 3)


def test_a_prediction_on_void_is_ignored_as_long_as_its_part_exceeds_the_overlap():
    ids = ids_of(26000, ROAD, 0, 0, ROAD)
    ap = car_ap(ids, [(0, 10), (24, 34 + 10)], [0.5, 0.9])  # 16 of 20 columns are void
    # False from 0.8 on (0.8 > 0.7500000000000002, but not > 0.8000000000000003), above the match.
    np.testing.assert_array_equal(ap, np.where(OVERLAPS < 0.8, 1.0, 0.25))


@pytest.mark.parametrize("void", [-1, 0, 3, 6, 9, 10, 14, 15, 16, 18, 29, 30])
def test_void_labels(void):
    assert car_ap(ids_of(26000, void), [(0, 10), (10, 20)], [0.5, 0.9])[0] == 1


@pytest.mark.parametrize("plain", [7, 8, 11, 12, 13, 17, 19, 20, 23, 29000, 30001, 24000, 25, 27])
def test_what_is_not_void_excuses_nothing(plain):
    # Caravans and trailers with an id of their own aren't void, nor are objects or groups of
    # another class.
    assert car_ap(ids_of(26000, plain), [(0, 10), (10, 20)], [0.5, 0.9])[0] == 0.25


def test_a_group_excuses_its_own_class_and_is_no_object():
    result = evaluate(ids_of(26000, 26), [(0, 10), (10, 20), (10, 20)], [0.5, 0.9, 0.8])
    assert result.ap_matrix[CAR, 0] == 1
    assert result.image_counts().ignored[0, CAR] == 2
    assert math.isnan(evaluate(ids_of(ROAD, 26), [(10, 20)], [0.9]).ap)


def test_objects_under_100_pixels_are_ignored_and_100_count():
    ids = ids_of(26000, ROAD, ROAD)
    ids[:, 15:25] = 26001
    assert car_ap(ids, [(0, 10), (15, 25)], [0.5, 0.9])[0] == 1
    assert car_ap(ids, [(0, 10)], [0.5])[0] == 0.5  # recall never exceeds a half
    ids[0, 15] = ROAD  # 99
    assert car_ap(ids, [(0, 10), (15, 25)], [0.5, 0.9])[0] == 1
    assert car_ap(ids, [(0, 10)], [0.5])[0] == 1


def test_a_group_under_100_pixels_counts_twice():
    ids = ids_of(26000, ROAD, ROAD, ROAD)
    ids[:, 20:26] = 26  # 60 pixels, of 200 that are predicted: 0.3, and twice 0.3
    small = car_ap(ids, [(0, 10), (20, 40)], [0.5, 0.9])
    np.testing.assert_array_equal(small, np.where(OVERLAPS < 0.6, 1.0, 0.25))
    ids[:, 20:30] = 26  # 100 pixels count once: 0.5, which isn't above 0.5
    assert car_ap(ids, [(0, 10), (20, 40)], [0.5, 0.9])[0] == 0.25


def test_the_best_score_is_the_match_and_others_are_false_even_on_void():
    ids = ids_of(26000, 26000, 26000, 0)
    columns = [(0, 30), (0, 32)]  # the second also lies on void
    assert car_ap(ids, columns, [0.9, 0.5])[0] == 1  # false below the match: recall is there
    result = evaluate(ids, columns, [0.5, 0.9])
    assert result.image_counts().true[0, CAR] == 1
    assert result.image_counts().false[0, CAR] == 1
    curve = result.curve("car", 0.5)
    np.testing.assert_array_equal(curve.scores, [0.5, 0.9])
    np.testing.assert_array_equal(curve.precision, [0.5, 1, 1])
    np.testing.assert_array_equal(curve.recall, [1, 1, 0])


def test_equal_scores_make_one_point():
    ids = ids_of(26000, ROAD)
    assert car_ap(ids, [(0, 10), (10, 20)], [0.5, 0.5])[0] == 0.75  # between (1, 1/2) and (0, 1)
    assert car_ap(ids, [(10, 20), (0, 10)], [0.5, 0.5])[0] == 0.75
    assert car_ap(ids, [(10, 20), (0, 10)], [-0.0, 0.0])[0] == 0.75
    # A false positive above the match: COCO would say 0.5.
    assert car_ap(ids, [(10, 20), (0, 10)], [0.9, 0.5])[0] == 0.25


def test_scores_of_any_range():
    ids = ids_of(26000, ROAD)
    assert car_ap(ids, [(0, 10), (10, 20)], [math.inf, -math.inf])[0] == 1
    assert car_ap(ids, [(0, 10), (10, 20)], [-7, -9])[0] == 1


def test_classes_without_objects_and_without_predictions():
    ids = ids_of(26000, 24000)
    result = evaluate(ids, [(0, 10), (0, 10)], [0.5, 0.9], labels=[26, 33])
    np.testing.assert_array_equal(result.ap_matrix[CAR], np.ones(10))
    np.testing.assert_array_equal(result.ap_matrix[CLASSES.index("person")], np.zeros(10))
    assert np.isnan(np.delete(result.ap_matrix, [CAR, 0], axis=0)).all()
    assert result.ap == result.ap50 == 0.5
    assert result.per_class["car"] == {"ap": 1, "ap50%": 1}
    assert math.isnan(result.per_class["bicycle"]["ap"])


def test_nothing_at_all():
    empty = CityscapesInstanceAP().result()
    assert math.isnan(empty.ap)
    assert math.isnan(empty.ap50)
    assert empty.ap100m is None
    result = evaluate(ids_of(ROAD, 0), [], [])
    assert np.isnan(result.ap_matrix).all()
    assert result.confusion().sum() == 0
    assert result.image_counts().true.shape == (1, 8)


def test_labels_that_are_not_evaluated_and_empty_masks_change_nothing():
    ids = ids_of(26000, 24000)
    labels = [26, 7, 29, -1, 0, 33]
    columns = [(0, 10)] * 5 + [(5, 5)]
    result = evaluate(ids, columns, [0.5, 0.9, 0.9, 0.9, 0.9, 0.9], labels=labels)
    np.testing.assert_array_equal(result.ap_matrix[CAR], np.ones(10))
    assert result.image_counts().false.sum() == 0


def test_where_the_official_script_fails_ap_is_0_and_a_warning_says_so():
    ids = ids_of(26000, 0, 31000)
    metric = CityscapesInstanceAP()
    # The car's only prediction is all on void; the train's is 0.6 on void.
    metric.add(ids, masks_of(ids, (10, 20), (14, 24)), [26, 31], [0.5, 0.5])
    with pytest.warns(UserWarning, match="issue 89.*car at every overlap; ") as warned:
        result = metric.result()
    assert len(warned) == 1
    assert "train at 0.50, 0.55" in str(warned[0].message)
    np.testing.assert_array_equal(result.ap_matrix[CAR], np.zeros(10))
    assert result.ap == 0


def test_neither_order_nor_merging_matters():
    scenes, _ = load_golden()
    images = [
        image for scene in scenes if scene.images[0].distances is None for image in scene.images
    ]
    named = [(f"image {i}" if i % 3 else "", image) for i, image in enumerate(images)]

    def accumulate(chosen):
        metric = CityscapesInstanceAP()
        for name, image in chosen:
            image.add_to(metric, image=name)
        return metric

    whole = accumulate(named)
    halves = accumulate(named[::-2])
    halves.merge(accumulate(named[-2::-2]))
    assert len(whole) == len(halves) == len(images)
    one, other = whole.result(), halves.result()
    np.testing.assert_array_equal(one.ap_matrix, other.ap_matrix)
    assert json.dumps(one.to_json()) == json.dumps(other.to_json())
    np.testing.assert_array_equal(one.image_counts().false, other.image_counts().false)
    assert one.image_counts().images == other.image_counts().images
    np.testing.assert_array_equal(one.calibration().mean_score, other.calibration().mean_score)
    np.testing.assert_array_equal(one.confusion(), other.confusion())


def test_save_and_load(tmp_path):
    scenes, _ = load_golden()
    metric, reversed_ = CityscapesInstanceAP(), CityscapesInstanceAP()
    scene = next(scene for scene in scenes if scene.images[0].distances and len(scene.images) > 1)
    for i, image in enumerate(scene.images):
        image.add_to(metric, image=f"straße {i}")
    for i, image in reversed(list(enumerate(scene.images))):
        image.add_to(reversed_, image=f"straße {i}")
    path = tmp_path / "tables"  # written under exactly this name
    metric.save(path)
    metric.save(path)
    reversed_.save(tmp_path / "reversed")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["reversed", "tables"]
    assert path.read_bytes() == (tmp_path / "reversed").read_bytes()
    loaded = CityscapesInstanceAP.load(path)
    assert len(loaded) == len(metric)
    assert json.dumps(loaded.result().to_json()) == json.dumps(metric.result().to_json())
    assert loaded.result().pool.images == [f"straße {i}" for i in range(len(metric))]
    with pytest.raises(ValueError, match="'straße 0' was added before"):
        loaded.merge(metric)

    CityscapesInstanceAP().save(path)
    assert len(CityscapesInstanceAP.load(path)) == 0


def test_files_that_are_none_of_ours(tmp_path):
    path = tmp_path / "tables.npz"
    with pytest.raises(FileNotFoundError):
        CityscapesInstanceAP.load(path)
    metric = CityscapesInstanceAP()
    ids = ids_of(26000, ROAD)
    metric.add(ids, masks_of(ids, (0, 10)), [26], [0.5])
    metric.save(path)
    content = path.read_bytes()
    for broken in (b"", b"no zip", content[: len(content) // 2], content[:-30]):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=r"tables\.npz isn't a complete \.npz file"):
            CityscapesInstanceAP.load(path)
    np.save(tmp_path / "array.npy", np.zeros(3))
    with pytest.raises(ValueError, match=r"array\.npy isn't a complete \.npz file"):
        CityscapesInstanceAP.load(tmp_path / "array.npy")
    np.savez(path, anything=np.zeros(3))
    with pytest.raises(ValueError, match="holds 'no format'; this version reads"):
        CityscapesInstanceAP.load(path)

    path.write_bytes(content)
    arrays = dict(np.load(path))
    version = str(arrays["format"])
    np.savez(path, **{**arrays, "format": version.replace("1", "2")})
    with pytest.raises(ValueError, match=r"holds 'm2f_jax CityscapesInstanceAP 2'; this version"):
        CityscapesInstanceAP.load(path)
    for name, array in (("table", arrays["table"][:-1]), ("scores", np.zeros(2))):
        np.savez(path, **{**arrays, name: array})
        with pytest.raises(ValueError, match="lacks a part or its parts don't fit together"):
            CityscapesInstanceAP.load(path)
    arrays.pop("labels")
    np.savez(path, **arrays)
    with pytest.raises(ValueError, match="lacks a part"):
        CityscapesInstanceAP.load(path)


def test_a_failed_save_leaves_the_old_file(tmp_path, monkeypatch):
    metric = CityscapesInstanceAP()
    metric.save(tmp_path / "tables.npz")
    before = (tmp_path / "tables.npz").read_bytes()

    def fail(file, **_):
        file.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(np, "savez_compressed", fail)
    with pytest.raises(OSError, match="disk full"):
        metric.save(tmp_path / "tables.npz")
    assert [file.name for file in tmp_path.iterdir()] == ["tables.npz"]
    assert (tmp_path / "tables.npz").read_bytes() == before


def test_distances():
    ids = np.repeat(ids_of(26000, 26001, 26002, 26003), 10, axis=0)  # objects of 1000 pixels
    columns, scores = [(0, 10), (10, 20), (20, 30)], [0.9, 0.8, 0.7]
    distances = {26000: (50.0, 0.5), 26001: (100.5, 0.9), 26002: (20.0, 0.4)}  # 26003 is unknown
    result = evaluate(ids, columns, scores, distances=distances)
    assert result.ap50 < 1  # 26003 is missed
    # Only 26000 counts near by; the others are ignored, with what lies on them.
    assert result.ap100m == result.ap50m == result.ap5050m == 1
    further = evaluate(ids, columns, scores, distances=distances | {26001: (100.0, 0.9)})
    assert further.near[100][CAR, 0] == 1
    assert further.matches.counted.sum() == 4
    distances = {26000: (50.0, 1.0), 26003: (50.5, 1.0)}
    with pytest.warns(UserWarning, match="car within 50 m at every overlap"):
        missed = evaluate(ids, columns[1:], scores[1:], distances=distances)
    assert missed.ap50m == 0  # 26000 is missed; a prediction on an ignored object is ignored
    ids[0, 0] = ROAD  # 999 pixels
    assert math.isnan(evaluate(ids, columns, scores, distances={26000: (50.0, 0.5)}).ap100m)
    assert evaluate(ids, columns, scores).ap100m is None
    assert math.isnan(evaluate(ids, columns, scores, distances={}).ap50m)


def test_distances_that_are_none():
    ids = ids_of(26000, ROAD)
    with pytest.raises(ValueError, match=r"image a: distances are given for \[1, 26001\]"):
        evaluate(ids, [], [], image="a", distances={26001: (1.0, 1.0), 1: (1.0, 1.0)})
    with pytest.raises(ValueError, match="NaN; leave out objects without one"):
        evaluate(ids, [], [], distances={26000: (math.nan, 1.0)})
    metric, other = CityscapesInstanceAP(), CityscapesInstanceAP()
    metric.add(ids, [], [], [], image="a", distances={})
    with pytest.raises(ValueError, match="'b' has no distances, unlike"):
        metric.add(ids, [], [], [], image="b")
    other.add(ids, [], [], [], image="b")
    with pytest.raises(ValueError, match="'a' has distances, unlike"):
        other.merge(metric)
    assert len(other) == len(metric) == 1


def test_result_file():
    ids = ids_of(26000, 24000)
    result = evaluate(ids, [(0, 10)], [0.5])
    content = json.loads(json.dumps(result.to_json()))
    assert content["averages"]["allAp"] == content["averages"]["allAp50%"] == 0.5
    assert content["averages"]["classes"]["car"] == {"ap": 1.0, "ap50%": 1.0}
    assert content["instLabels"] == CLASSES
    assert content["overlaps"] == OVERLAPS.tolist()
    assert np.shape(content["resultApMatrix"]) == (1, 8, 10)
    near = evaluate(ids, [(0, 10)], [0.5], distances={}).to_json()
    assert near["averages"].keys() >= {"allAp100m", "allAp50m", "allAp50%50m"}
    assert near["averages"]["classes"]["car"].keys() == {
        *("ap", "ap50%", "ap100m", "ap50m", "ap50%50m")
    }
    assert np.shape(near["resultApMatrix"]) == (3, 8, 10)


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([11, 13, 18], [0.5] * 3, r"labels \[11, 13, 18\] seem to be train ids.*26 for car"),
        ([0, 2, 7], [0.5] * 3, r"labels \[0, 2, 7\] seem to be class indices.*33 for bicycle"),
        ([26, 34, 255], [0.5] * 3, r"labels \[34, 255\] aren't .* from -1 to 33"),
        ([26, -2, 26], [0.5] * 3, r"labels \[-2\] aren't"),
        ([26.0] * 3, [0.5] * 3, "labels must be integers, Cityscapes label ids, not float64"),
        ([26] * 3, [0.5, math.nan, 0.1], r"scores at \[1\] are NaN"),
        ([26] * 3, ["0.5"] * 3, "scores must be floats, not <U3"),
        ([26] * 3, [True] * 3, "scores must be floats, not bool"),
        ([26] * 2, [0.5] * 3, r"3 masks, labels of shape \[2\] and scores of shape \[3\]"),
        ([26] * 3, [0.5] * 4, r"3 masks, labels of shape \[3\] and scores of shape \[4\]"),
        ([[26]] * 3, [0.5] * 3, r"labels of shape \[3, 1\]"),
    ],
)
def test_predictions_that_do_not_fit(labels, scores, message):
    ids = ids_of(26000, ROAD)
    metric = CityscapesInstanceAP()
    masks = masks_of(ids, (0, 10), (0, 10), (0, 10))
    with pytest.raises(ValueError, match=rf"image bonn_1_2: .*{message}"):
        metric.add(ids, masks, labels, scores, image="bonn_1_2")
    with pytest.raises(ValueError, match=f"image number 1: .*{message}"):
        metric.add(ids, [encode_rle(mask) for mask in masks], labels, scores)
    assert len(metric) == 0


def test_images_that_do_not_fit():
    ids = ids_of(26000, ROAD)
    metric = CityscapesInstanceAP()
    masks = masks_of(ids, (0, 10))
    metric.add(ids, masks, [26], [0.5], image="a")
    for instance_ids, given, message in (
        (ids[:, :-1], masks, r"image b: masks must be \[P, 10, 19\]"),
        (ids, masks * 255, "image b: masks must be bool, not int64"),
        (ids / 1, masks, "image b: instance ids must be integers, not float64"),
        (ids + 9000, masks, "image b: instance ids hold .*35000.*no Cityscapes label"),
        (ids, [encode_rle(masks[0].T)], r"image b: a mask's size is \[20, 10\]"),
        (ids, list(masks), "image b: a mask must be a run-length encoding"),
    ):
        with pytest.raises(ValueError, match=message):
            metric.add(instance_ids, given, [26], [0.5], image="b")
    with pytest.raises(ValueError, match="image a: 'a' was added before; every image counts once"):
        metric.add(ids, masks, [26], [0.5], image="a")
    assert len(metric) == 1


def test_tables_that_do_not_fit():
    regions = Regions.of(ids_of(26000, ROAD))
    metric = CityscapesInstanceAP()
    for table, areas, message in (
        ([[100, 0, 0]], [99], "don't add up to the areas"),
        ([[0, 0, 7]], [7], "don't add up to the areas"),
        ([[-1, 1]], [0], "don't add up to the areas"),
        ([[100.0, 0.0]], [100], "counted in integers, not float64"),
        ([[100]], [100], r"the table is \[1, 1\] .* must be \[P, 2 or more\] and \[P\]"),
        ([[100, 0]], [100, 0], r"the areas \[2\]"),
    ):
        with pytest.raises(ValueError, match=f"image a: .*{message}"):
            metric.add_table(regions, table, areas, [26], [0.5], image="a")
    metric.add_table(regions, [[0, 100, 5]], [100], [26], [0.5])
    assert metric.result().ap == 1


def test_counts_by_image():
    metric = CityscapesInstanceAP()
    ids = ids_of(26000, 26001, 0, 24000, ROAD)
    columns = [(0, 10), (0, 10), (20, 30), (40, 50), (30, 40)]
    metric.add(ids, masks_of(ids, *columns), [26] * 4 + [24], [0.9, 0.8, 0.7, 0.6, 0.2], image="b")
    metric.add(ids_of(26000), [], [], [], image="a")
    result = metric.result()
    counts = result.image_counts()
    assert counts.images == ["a", "b"]
    for found, cars, people in (
        (counts.true, [0, 1], [0, 1]),
        (counts.false, [0, 2], [0, 0]),
        (counts.missed, [1, 1], [0, 0]),
        (counts.ignored, [0, 1], [0, 0]),
    ):
        np.testing.assert_array_equal(found[:, CAR], cars)
        np.testing.assert_array_equal(found[:, 0], people)
    confident = result.image_counts(min_score=0.7)
    np.testing.assert_array_equal(confident.false[:, CAR], [0, 1])
    np.testing.assert_array_equal(confident.missed[:, 0], [0, 1])


def test_confusion_between_classes():
    ids = ids_of(26000, 27000, 24000, 0, ROAD, 29000, 25000)
    columns = [(0, 10), (10, 20), (10, 20), (30, 40), (40, 50), (50, 60), (20, 24)]
    labels, scores = [26, 26, 26, 26, 28, 27, 24], [0.9, 0.8, 0.3, 0.7, 0.6, 0.5, 0.4]
    want = np.zeros((9, 9), int)
    want[CAR, CAR] = 1
    want[CAR, CLASSES.index("truck")] = 2
    want[CLASSES.index("bus"), -1] = 1  # on the road
    want[CLASSES.index("truck"), -1] = 1  # on a caravan
    want[CLASSES.index("person"), -1] = 1  # too small
    want[-1, CLASSES.index("person")] = want[-1, CLASSES.index("rider")] = 1  # found by none
    metric = CityscapesInstanceAP()
    metric.add(ids, masks_of(ids, *columns), labels, scores)
    result = metric.result()
    np.testing.assert_array_equal(result.confusion(), want)
    want[CAR, CLASSES.index("truck")] = 1
    want[CLASSES.index("person"), -1] = 0
    np.testing.assert_array_equal(result.confusion(min_score=0.5), want)


def test_calibration():
    ids = ids_of(26000, ROAD, 0, 26001, ROAD)
    columns = [(0, 10), (10, 20), (20, 30), (30, 40), (40, 50)]
    calibration = evaluate(ids, columns, [0.52, 0.58, 0.55, 1.5, 0.6]).calibration(bins=5)
    np.testing.assert_array_equal(calibration.edges, [0, 0.2, 0.4, 0.6, 0.8, 1])
    np.testing.assert_array_equal(calibration.count, [0, 0, 2, 1, 1])
    np.testing.assert_array_equal(calibration.mean_score, [math.nan] * 2 + [0.55, 0.6, 1.5])
    np.testing.assert_array_equal(calibration.true_fraction, [math.nan] * 2 + [0.5, 0, 1])


def test_ap_by_size():
    ids = np.repeat(ids_of(26000, ROAD, *[26001] * 10, *[ROAD] * 8), 10, axis=0)
    # Right for the small car (1000 pixels); half of the large one (10 000), a false one of each.
    columns = [(0, 10), (20, 70), (120, 130), (140, 200)]
    result = evaluate(ids, columns, [0.5, 0.6, 0.7, 0.8])
    small, medium, large = result.size_aps()
    assert (small.min_area, small.max_area, medium.max_area) == (100, 1024, 9216)
    assert [size.num_objects[CAR] for size in (small, medium, large)] == [1, 0, 1]
    assert small.ap50 == 0.25  # the false one of 1000 pixels has the better score
    assert math.isnan(medium.ap)
    assert large.ap50 == 0
    assert result.size_aps(borders=(100.0, math.inf))[0].ap == result.ap


def test_curves_are_found_by_name():
    result = evaluate(ids_of(26000, ROAD), [(0, 10), (10, 20)], [0.5, 0.9])
    for overlap, value in zip(np.linspace(0.5, 0.95, 10), result.ap_matrix[CAR], strict=True):
        assert result.curve("car", overlap).average_precision == value
    assert len(result.curve("bus").scores) == 0
    with pytest.raises(ValueError, match=r"no curve of 'tram' at 0\.5; the classes are person, "):
        result.curve("tram")
    with pytest.raises(ValueError, match=r"at 0\.52; .* the overlaps \[0\.5, 0\.55, "):
        result.curve("car", 0.52)
