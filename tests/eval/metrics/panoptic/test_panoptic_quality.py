"""PanopticQuality gives the official script's numbers, in any order, from files and by parts."""

import itertools
import json
import math

import numpy as np
import pytest
from m2f_jax.eval.metrics.cityscapes.ids import panoptic_ground_truth
from m2f_jax.eval.metrics.panoptic.panoptic_quality import (
    PanopticQuality,
    coco_categories,
    qualities_of,
)
from m2f_jax.eval.metrics.panoptic.segment_counts import TP, SegmentOutcomes

from m2f_jax.labels import CITYSCAPES
from tests.eval.metrics.golden_sets import (
    GoldenSets,
    check_order_and_merges,
    check_order_without_names,
)
from tests.eval.metrics.panoptic.images import CATEGORIES, GOOD, counts, quality, segment


class GoldenMaps(GoldenSets):
    """Panoptic maps with their segments, of COCO and of Cityscapes."""

    def __init__(self):
        super().__init__("panoptic_quality.npz")
        from_ids = ~self.arrays["is_coco"][self.arrays["sets"]]
        self.id_ends = np.cumsum(from_ids * self.arrays["sizes"].astype(int).prod(axis=1))

    def rows(self, number):
        return np.flatnonzero(self.arrays["categories"][:, 0] == number)

    def categories(self, number):
        return [
            {"id": id, "name": f"category {id}", "isthing": thing}
            for _, id, thing in self.arrays["categories"][self.rows(number)].tolist()
        ]

    def map(self, name, image):
        end = (self.id_ends if name == "instance_ids" else self.ends)[image]
        height, width = self.arrays["sizes"][image].tolist()
        return self.arrays[name][end - height * width : end].reshape(height, width)

    def segments(self, name, image):
        rows = self.arrays[name]
        keys = ("id", "category_id", "iscrowd")
        return [dict(zip(keys, row, strict=True)) for row in rows[rows[:, 0] == image, 1:].tolist()]

    def image(self, image):
        return (
            self.map("gt_maps", image),
            self.segments("gt_segments", image),
            self.map("maps", image),
            self.segments("segments", image),
        )

    def empty(self, number):
        return PanopticQuality(self.categories(number))


@pytest.fixture(scope="module")
def golden():
    return GoldenMaps()


def test_the_numbers_are_the_official_ones(golden):
    for number in range(len(golden)):
        result = golden.metric(number).result()
        groups = [result.all, result.things, result.stuff]
        np.testing.assert_array_equal(
            [(group.pq, group.sq, group.rq) for group in groups],
            golden.arrays["group_qualities"][number],
        )
        sizes = golden.arrays["group_sizes"][number]
        np.testing.assert_array_equal([group.n for group in groups], sizes)
        classes, rows = result.per_class.values(), golden.rows(number)
        np.testing.assert_array_equal(
            [(found.pq, found.sq, found.rq) for found in classes],
            golden.arrays["class_qualities"][rows],
        )
        np.testing.assert_array_equal(
            [(found.tp, found.fp, found.fn) for found in classes],
            golden.arrays["class_counts"][rows],
        )


def test_ground_truth_from_instance_ids_is_the_official_one(golden):
    for number in np.flatnonzero(~golden.arrays["is_coco"]).tolist():
        for image in golden.images(number):
            found, segments = panoptic_ground_truth(golden.map("instance_ids", image))
            np.testing.assert_array_equal(found, golden.map("gt_maps", image))
            areas = [np.count_nonzero(found == entry["id"]) for entry in segments]
            assert [entry.pop("area") for entry in segments] == areas
            assert segments == golden.segments("gt_segments", image)


def test_the_order_of_images_and_merges_changes_no_bit(golden, tmp_path):
    check_order_and_merges(golden, len(golden) - 2, tmp_path)  # of Cityscapes' classes


def test_images_without_names_come_in_any_order_too(golden):
    check_order_without_names(golden, len(golden) - 2)


def test_the_order_of_lists_changes_no_bit():
    rng = np.random.default_rng(0)
    truth = np.repeat(np.arange(1, 61), rng.integers(10, 30, 60))[None]
    map = np.where(rng.random(truth.shape) < 0.9, truth, 0)
    segments = [segment(id, 2) for id in range(1, 61)]
    expected = quality((truth, segments, map, segments))
    assert counts(expected) == (60, 0, 0)
    for _ in range(5):
        shuffled = [rng.permutation(segments).tolist() for _ in range(2)]
        result = quality((truth, shuffled[0], map, shuffled[1]))
        assert result.to_json() == expected.to_json()


def test_numbered_images_are_added_up_by_their_numbers():
    images = [
        SegmentOutcomes(f"{name}", ((2, TP, n, 9),), ()) for name, n in ((10, 8), (8, 6), (9, 5))
    ]
    result = qualities_of(PanopticQuality(CATEGORIES).categories, images)
    assert result.per_class["car"].sq == ((6 / 9 + 5 / 9) + 8 / 9) / 3
    assert ((6 / 9 + 5 / 9) + 8 / 9) / 3 != ((8 / 9 + 6 / 9) + 5 / 9) / 3


def test_save_and_load(golden, tmp_path):
    path = tmp_path / "metric.npz"
    metric = golden.metric(0)
    metric.save(path)
    metric.save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["metric.npz"]
    loaded = PanopticQuality.load(path)
    assert loaded.result().to_json() == metric.result().to_json()
    assert len(loaded) == len(metric)
    with pytest.raises(ValueError, match=r"the images \['00000'.* were added already"):
        metric.merge(loaded)

    PanopticQuality(CITYSCAPES).save(path)
    loaded = PanopticQuality.load(path)
    assert loaded.categories == CITYSCAPES
    assert len(loaded) == 0
    loaded.merge(PanopticQuality(coco_categories(CITYSCAPES)))


def test_files_of_another_kind_are_named(tmp_path):
    path = tmp_path / "metric.npz"
    PanopticQuality(CATEGORIES).save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", format="something else")
    np.save(tmp_path / "array.npy", np.zeros(3))
    for content in (whole[:-30], b"", (tmp_path / "array.npy").read_bytes()):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"metric\.npz isn't a whole file of PanopticQuality"):
            PanopticQuality.load(path)
    with pytest.raises(ValueError, match="its format is something else"):
        PanopticQuality.load(tmp_path / "other.npz")
    with pytest.raises(FileNotFoundError):
        PanopticQuality.load(tmp_path / "absent.npz")


def test_groups_without_classes_are_nan():
    result = PanopticQuality(CATEGORIES).result()
    assert math.isnan(result.all.pq)
    assert result.all.n == 0
    result = quality(([[5]], [segment(5, 2)], [[5]], [segment(5, 2)]))
    assert result.things.pq == result.all.pq == 1
    assert math.isnan(result.stuff.rq)
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert list(content) == ["All", "Things", "Stuff", "per_class"]
    assert content["Stuff"] == {"pq": None, "sq": None, "rq": None, "n": 0}
    assert content["per_class"]["2"]["tp"] == 1


def test_no_image_is_added_twice():
    metric, good = PanopticQuality(CATEGORIES), (np.array(GOOD[0]), GOOD[1], np.array(GOOD[2]))
    metric.add(*good, GOOD[3], image="a")
    with pytest.raises(ValueError, match=r"the images \['a'\] were added already"):
        metric.add(*good, GOOD[3], image="a")
    for _ in range(2):
        metric.add(*good, GOOD[3])
    assert len(metric) == 3


def test_categories_must_be_complete_and_distinct():
    with pytest.raises(ValueError, match=r"no \['isthing'\]; take those of a panoptic file"):
        PanopticQuality([{"id": 1, "name": "person"}])
    for field in ("id", "name"):
        doubled = CATEGORIES[1] | {field: CATEGORIES[0][field]}
        with pytest.raises(ValueError, match=f"several categories share the {field}"):
            PanopticQuality([CATEGORIES[0], doubled])
    with pytest.raises(ValueError, match="different categories"):
        PanopticQuality(CATEGORIES).merge(PanopticQuality(CATEGORIES[:2]))


def test_golden_sets_cover_what_matters(golden):
    tp, fp, fn = golden.arrays["class_counts"].sum(axis=0)
    assert min(tp, fp, fn) > 500
    assert np.isnan(golden.arrays["group_qualities"]).any()
    crowds = [golden.segments("gt_segments", image) for image in range(len(golden.ends))]
    assert sum(entry["iscrowd"] for entry in itertools.chain(*crowds)) > 100
