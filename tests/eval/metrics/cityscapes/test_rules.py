"""Each rule of the benchmark, by hand."""

import math

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP
from m2f_jax.eval.metrics.cityscapes.matching import OVERLAPS

from tests.eval.metrics.cityscapes.conftest import CAR, CLASSES, ROAD, evaluate, ids_of, masks_of


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
