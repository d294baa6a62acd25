"""Which segments match, are excused, confused or refused."""

import numpy as np
import pytest
from m2f_jax.eval.metrics.panoptic.panoptic_quality import PanopticQuality
from m2f_jax.eval.metrics.panoptic.segment_counts import compare_segments

from tests.eval.metrics.panoptic.images import CATEGORIES, GOOD, counts, quality, segment


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
