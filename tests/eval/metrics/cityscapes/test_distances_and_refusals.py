"""Distances, the result file, and what is refused."""

import json
import math

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP, Regions
from m2f_jax.eval.metrics.cityscapes.matching import OVERLAPS

from m2f_jax.masks.rle import encode_rle
from tests.eval.metrics.cityscapes.conftest import CAR, CLASSES, ROAD, evaluate, ids_of, masks_of


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
