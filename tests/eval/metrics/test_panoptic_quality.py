import itertools
import json
import math

import numpy as np
import pytest
from m2f_jax.eval.metrics.cityscapes.ids import panoptic_ground_truth
from m2f_jax.eval.metrics.panoptic.boundary_quality import (
    BoundaryPanopticQuality,
    PanopticQualityWithBoundary,
)
from m2f_jax.eval.metrics.panoptic.panoptic_quality import (
    PanopticQuality,
    coco_categories,
    qualities_of,
)
from m2f_jax.eval.metrics.panoptic.segment_counts import (
    TP,
    SegmentOutcomes,
    compare_segments,
)

from m2f_jax.labels import CITYSCAPES
from tests.conftest import GOLDEN

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 2, "name": "car", "isthing": 1},
    {"id": 7, "name": "road", "isthing": 0},
]


def segment(id, category, **more):
    return {"id": id, "category_id": category, **more}


def quality(*images):
    """The result for images of a ground-truth map, its segments, a map and its segments."""
    metric = PanopticQuality(CATEGORIES)
    for gt_map, gt_segments, map, segments in images:
        metric.add(np.array(gt_map), gt_segments, np.array(map), segments)
    return metric.result()


def counts(result, name="car"):
    found = result.per_class[name]
    return found.tp, found.fp, found.fn


class GoldenSets:
    """The sets of images in the golden file, each evaluated by itself."""

    def __init__(self):
        self.arrays = dict(np.load(GOLDEN / "panoptic_quality.npz"))
        self.ends = np.cumsum(self.arrays["sizes"].astype(int).prod(axis=1))
        from_ids = ~self.arrays["is_coco"][self.arrays["sets"]]
        self.id_ends = np.cumsum(from_ids * self.arrays["sizes"].astype(int).prod(axis=1))

    def __len__(self):
        return len(self.arrays["is_coco"])

    def rows(self, number):
        return np.flatnonzero(self.arrays["categories"][:, 0] == number)

    def images(self, number):
        return np.flatnonzero(self.arrays["sets"] == number).tolist()

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

    def metric(self, number, images=None):
        metric = PanopticQuality(self.categories(number))
        for image in self.images(number) if images is None else images:
            metric.add(*self.image(image), image=f"{image:05}")
        return metric


@pytest.fixture(scope="module")
def golden():
    return GoldenSets()


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
    number = len(golden) - 2  # sixty images of Cityscapes' classes
    images = golden.images(number)
    assert len(images) == 60
    expected = golden.metric(number).result()
    golden.metric(number).save(tmp_path / "expected.npz")
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(images).tolist()
        merged = golden.metric(number, order[:7])
        merged.merge(golden.metric(number, order[30:]))
        merged.merge(golden.metric(number, order[7:30]))
        assert len(merged) == 60
        assert merged.result().to_json() == expected.to_json()
        merged.save(tmp_path / "merged.npz")
        saved = (tmp_path / "expected.npz").read_bytes()
        assert (tmp_path / "merged.npz").read_bytes() == saved


def test_images_without_names_come_in_any_order_too(golden):
    number = len(golden) - 2
    results = []
    for images in (golden.images(number), golden.images(number)[::-1]):
        metric = PanopticQuality(golden.categories(number))
        for image in images:
            metric.add(*golden.image(image))
        results.append(metric.result().to_json())
    assert results[0] == results[1]


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


def test_a_match_needs_more_than_half():
    truth = [[5, 5, 5, 5]]
    for pixels, expected in ((2, (0, 1, 1)), (3, (1, 0, 0))):
        map = np.array([[9] * pixels + [3] * (4 - pixels)])
        result = quality((truth, [segment(5, 2)], map, [segment(9, 2), segment(3, 7)]))
        assert counts(result) == expected
        assert counts(result, "road") == (0, 1, 0)
    assert result.per_class["car"].sq == result.per_class["car"].pq == 0.75
    assert result.all.pq == 0.375
    assert result.all.n == 2
    assert result.things.n == 1
    assert result.stuff.pq == 0
    assert result.per_class["person"].pq == 0  # no segment: zero here, in no mean


def test_void_is_no_part_of_the_union():
    truth, segments = [[5, 5, 5, 0, 0, 0]], [segment(5, 2)]
    result = quality((truth, segments, [[9, 9, 9, 9, 9, 9]], [segment(9, 2)]))
    assert result.per_class["car"].pq == 1
    # 2 of the 3 pixels outside of void: the union has 3.
    result = quality((truth, segments, [[9, 9, 0, 9, 9, 9]], [segment(9, 2)]))
    assert result.per_class["car"].sq == 2 / 3


def test_predictions_mostly_on_void_are_excused():
    truth, segments = [[0, 0, 7, 7, 7, 7]], [segment(7, 7)]
    for map, expected in (
        ([[9, 9, 9, 0, 0, 0]], (0, 0, 0)),  # two thirds on void
        ([[9, 9, 9, 9, 0, 0]], (0, 1, 0)),  # half of it isn't more than half
    ):
        assert counts(quality((truth, segments, map, [segment(9, 2)]))) == expected


def test_predictions_mostly_on_a_crowd_of_their_class_are_excused():
    truth = [[4, 4, 4, 7, 7, 7]]
    segments = [segment(4, 2, iscrowd=1), segment(7, 7, iscrowd=0)]
    for category, expected in ((2, (0, 0, 0)), (1, (0, 1, 0))):
        result = quality((truth, segments, [[9, 9, 9, 9, 0, 0]], [segment(9, category)]))
        assert counts(result, "car" if category == 2 else "person") == expected
    # Void and crowd count together, and a crowd is never matched nor missed.
    truth = [[4, 4, 0, 7, 7, 7]]
    result = quality((truth, segments, [[9, 9, 9, 9, 9, 0]], [segment(9, 2)]))
    assert counts(result) == (0, 0, 0)
    result = quality((truth, segments, [[9, 9, 0, 0, 0, 0]], [segment(9, 2)]))
    assert counts(result) == (0, 0, 0)


def test_of_several_crowds_of_a_class_the_last_in_the_list_counts():
    truth, map = [[3, 3, 3, 4, 7, 7]], [[9, 9, 9, 9, 0, 0]]
    crowds = [segment(3, 2, iscrowd=1), segment(4, 2, iscrowd=1)]
    for order, expected in ((crowds, (0, 1, 0)), (crowds[::-1], (0, 0, 0))):
        result = quality((truth, [*order, segment(7, 7)], map, [segment(9, 2)]))
        assert counts(result) == expected


def test_the_class_must_be_the_same_and_stuff_is_not_merged():
    truth, segments = [[5, 5, 7, 7]], [segment(5, 2), segment(7, 7)]
    result = quality((truth, segments, [[1, 1, 2, 3]], [segment(1, 1), *map_stuff(2, 3)]))
    assert counts(result) == (0, 0, 1)
    assert counts(result, "person") == (0, 1, 0)
    assert counts(result, "road") == (0, 2, 1)


def map_stuff(*ids):
    return [segment(id, 7) for id in ids]


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


def test_maps_of_any_integer_type_and_layout():
    rng = np.random.default_rng(0)
    truth, map = rng.integers(0, 4, (2, 30, 40))
    lists = [segment(1, 1), segment(2, 2), segment(3, 7)]
    expected = quality((truth, lists, map, lists)).to_json()
    for kind in (np.uint8, np.uint16, np.int32, np.uint32, np.int64, np.uint64):
        left, right = truth.astype(kind), np.asfortranarray(map.astype(kind))
        assert quality((left, lists, right, lists)).to_json() == expected
    assert quality((truth[:, ::-1], lists, map[:, ::-1], lists)).to_json() == expected
    large = [segment(2**24 - entry["id"], entry["category_id"]) for entry in lists]
    as_large = np.where(map > 0, 2**24 - map, 0)
    assert quality((truth, lists, as_large, large)).to_json() == expected


GOOD = ([[5, 5], [0, 7]], [segment(5, 2), segment(7, 7)], [[1, 1], [0, 0]], [segment(1, 2)])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: [[5, 5]]}, "the ground truth has 1 x 2 pixels but the prediction 2 x 2"),
        ({2: [[1.0, 1.0], [0.0, 0.0]]}, "the prediction's map .* type float64"),
        ({2: [[[1, 1, 0]]]}, r"the prediction's map has the shape \(1, 1, 3\).*65536 B"),
        ({2: [[1, 1], [0, -1]]}, "ids from -1 to 1"),
        ({0: [[5, 5], [0, 2**24]]}, "the ground truth's map has ids from 0 to 16777216"),
        ({1: [segment(5, 2)]}, r"the ground truth draws the ids \[7\], which aren't in its list"),
        ({3: []}, r"the prediction draws the ids \[1\]"),
        ({3: [segment(1, 2), segment(4, 2)]}, r"the prediction lists the segments \[4\]"),
        ({1: [*GOOD[1], segment(8, 1)]}, r"the ground truth lists the segments \[8\]"),
        ({3: [segment(1, 2), segment(1, 7)]}, r"the prediction lists the ids \[1\]"),
        ({3: [segment(1, 2), segment(0, 7)]}, r"the ids \[0\].*0 is void"),
        ({3: [segment(1, 3)]}, r"unknown categories \(segment: category\) {1: 3}.*\[1, 2, 7\]"),
        ({1: [segment(5, 9), segment(7, 7)]}, "the ground truth has unknown categories"),
        ({3: [{"id": 1}]}, r"the prediction lists a segment without \['category_id'\]"),
        ({1: [segment(5, 2, area=3), segment(7, 7)]}, "an area of 3, but draws 2 pixels"),
    ],
)
def test_bad_input_is_named(changes, message):
    arguments = [changes.get(k, GOOD[k]) for k in range(4)]
    arguments[0], arguments[2] = np.array(arguments[0]), np.array(arguments[2])
    metric = PanopticQuality(CATEGORIES)
    with pytest.raises(ValueError, match=f"image aachen 5: .*{message}"):
        metric.add(*arguments, image="aachen 5")
    assert len(metric) == 0


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


def test_instance_ids_become_segments_groups_and_void():
    ids = np.array([[26001, 26, 7, 29003], [24000, 3, 30, 7002]], np.uint16)
    found, segments = panoptic_ground_truth(ids)
    np.testing.assert_array_equal(found, [[26001, 26, 7, 0], [24000, 0, 0, 7002]])
    assert [tuple(entry.values()) for entry in segments] == [
        (7, 7, 1, 0),
        (26, 26, 1, 1),
        (7002, 7, 1, 0),
        (24000, 24, 1, 0),
        (26001, 26, 1, 0),
    ]
    metric = PanopticQuality(CITYSCAPES)
    metric.add(found, segments, found, segments)
    assert metric.result().all.pq == 1


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 2)), "must be whole numbers"),
        (np.zeros((2, 2, 3), int), r"of the shape \(2, 2, 3\)"),
        (np.array([[-1, 7]]), "go from -1 to 7"),
        (np.array([[34000]]), "go from 0 to 34000"),
        (np.array([[34, 255, 7]]), r"the instance ids \[34, 255\] belong to no class"),
    ],
)
def test_instance_ids_that_are_none(ids, message):
    with pytest.raises(ValueError, match=f"image ulm: .*{message}"):
        panoptic_ground_truth(ids, image="ulm")


def test_golden_sets_cover_what_matters(golden):
    tp, fp, fn = golden.arrays["class_counts"].sum(axis=0)
    assert min(tp, fp, fn) > 500
    assert np.isnan(golden.arrays["group_qualities"]).any()
    crowds = [golden.segments("gt_segments", image) for image in range(len(golden.ends))]
    assert sum(entry["iscrowd"] for entry in itertools.chain(*crowds)) > 100


@pytest.mark.parametrize(("columns", "confused"), [(5, ()), (6, ((1, 2),))])
def test_segments_of_other_classes_are_confused_by_more_than_half(columns, confused):
    truth = np.zeros((1, 12), int)
    truth[:, :10] = 1
    found = np.zeros_like(truth)
    found[:, :columns] = 1
    compared = compare_segments(
        truth,
        [{"id": 1, "category_id": 1}],
        found,
        [{"id": 1, "category_id": 2}],
        {1, 2},
        "",
    )
    assert compared.outcomes().confused == confused


def cells(seed):
    """An image of nearest neighbours, void and crowds, and a prediction with its centers moved."""
    random = np.random.default_rng(seed)
    height, width = random.integers(20, 90, 2)
    count = random.integers(2, 9)
    y, x = np.mgrid[:height, :width]
    centers = random.integers(0, [height, width], (count, 2))
    kinds, moves = random.choice([1, 2, 7], count), random.integers(-2, 3, (count, 2))

    def side(centers, void, crowd):
        nearest = (
            (y[..., None] - centers[:, 0]) ** 2 + (x[..., None] - centers[:, 1]) ** 2
        ).argmin(axis=-1)
        left_out = np.flatnonzero(random.random(count) < void)
        map = np.where(np.isin(nearest, left_out), 0, 100 + nearest)
        changed = random.random(count) < 0.15
        chosen = np.where(changed, random.choice([1, 2, 7], count), kinds).tolist()
        crowds = (random.random(count) < crowd).tolist()
        there = set(np.unique(map).tolist())
        listed = enumerate(zip(chosen, crowds, strict=True), 100)
        return map, [segment(id, k, iscrowd=int(c)) for id, (k, c) in listed if id in there]

    return *side(centers, 0.15, 0.2), *side(centers + moves, 0.05, 0.0)


def test_boundary_quality_is_the_authors(tmp_path):
    """The numbers are those of the rules of boundary_iou_api, in its order of operations."""
    metric, parts = BoundaryPanopticQuality(CATEGORIES), []
    for k in range(12):
        parts.append(BoundaryPanopticQuality(CATEGORIES))
        parts[-1].add(*cells(k), image=str(k))
    parts[0].save(tmp_path / "0.npz")
    for part in (BoundaryPanopticQuality.load(tmp_path / "0.npz"), *parts[1:]):
        metric.merge(part)
    result = metric.result()
    assert (result.all.pq, result.all.sq, result.all.rq) == (
        0.33738274615453623,
        0.7177177675966147,
        0.4705613054070405,
    )
    assert (result.things.pq, result.stuff.pq) == (0.3818181351364984, 0.2485119681906119)
    assert counts(result) == (10, 9, 8)
    masks = PanopticQuality(CATEGORIES)
    with pytest.raises(ValueError, match="overlaps of masks, of boundaries, or of both"):
        masks.merge(metric)
    with pytest.raises(ValueError, match="its format is BoundaryPanopticQuality 1"):
        PanopticQuality.load(tmp_path / "0.npz")


def test_both_qualities_are_those_of_their_own_metrics(tmp_path):
    alone = PanopticQuality(CATEGORIES), BoundaryPanopticQuality(CATEGORIES, 0.03)
    both = PanopticQualityWithBoundary(CATEGORIES, 0.03)
    for k in range(6):
        gt_map, gt_segments, found, segments = cells(k)
        sides = gt_map.astype(np.uint8), gt_segments, found.astype(np.uint32), segments
        part = PanopticQualityWithBoundary(CATEGORIES, 0.03)
        for metric in (*alone, part):
            metric.add(*sides, image=str(k))
        part.save(tmp_path / "part.npz")
        both.merge(PanopticQualityWithBoundary.load(tmp_path / "part.npz"))
    assert (both.result(), both.boundary.result()) == tuple(one.result() for one in alone)
    assert 0 < both.boundary.result().all.pq < both.result().all.pq
    with pytest.raises(ValueError, match=r"dilation ratios 0\.03 and 0\.02 can't be merged"):
        both.merge(PanopticQualityWithBoundary(CATEGORIES))
    with pytest.raises(ValueError, match="added already"):
        both.merge(part)
    with pytest.raises(ValueError, match="PanopticQualityWithBoundary and a PanopticQuality can't"):
        both.merge(alone[0])
    assert len(both) == len(both.boundary) == 6


def test_boundaries_of_the_highest_ids():
    """What a boundary encloses has an id of its own, whatever type the maps have."""
    last = 2**24 - 1
    truth, found = np.ones((12, 12), np.uint8), np.full((12, 12), last, np.uint32)
    metric = BoundaryPanopticQuality(CATEGORIES)
    metric.add(truth, [segment(1, 1)], found, [segment(last, 1)])
    assert metric.result().all.pq == 1
