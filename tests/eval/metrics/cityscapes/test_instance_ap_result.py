"""What a report shows besides the benchmark's numbers."""

import math

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP
from m2f_jax.eval.analysis.confusion import object_confusion
from m2f_jax.eval.analysis.matching.cityscapes import cityscapes_judged

from tests.eval.metrics.cityscapes.conftest import CAR, CLASSES, ROAD, evaluate, ids_of, masks_of


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
    want = np.zeros((9, 9), int)  # rows are the truth
    want[CAR, CAR] = 1
    want[CLASSES.index("truck"), CAR] = 2
    want[-1, CLASSES.index("bus")] = 1  # on the road
    want[-1, CLASSES.index("truck")] = 1  # on a caravan
    want[-1, CLASSES.index("person")] = 1  # too small
    want[CLASSES.index("person"), -1] = want[CLASSES.index("rider"), -1] = 1  # found by none
    metric = CityscapesInstanceAP()
    metric.add(ids, masks_of(ids, *columns), labels, scores)
    result = metric.result()
    judged = cityscapes_judged(result.pool, result.matches)
    found = object_confusion(judged, 0.0)
    assert found.class_names == tuple(result.pool.class_names)
    np.testing.assert_array_equal(found.counts, want)
    want[CLASSES.index("truck"), CAR] = 1
    want[-1, CLASSES.index("person")] = 0
    np.testing.assert_array_equal(object_confusion(judged, 0.5).counts, want)


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
