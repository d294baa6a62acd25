import json
import math
import warnings

import numpy as np
import pycocotools.mask as coco_mask
import pytest
from m2f_jax.eval.analysis.errors import Error, analyze_errors
from m2f_jax.eval.analysis.matching.cityscapes import cityscapes_ap, cityscapes_judged
from m2f_jax.eval.analysis.matching.coco_overlaps import coco_overlaps
from m2f_jax.eval.analysis.matching.judged import Judged
from m2f_jax.eval.analysis.matching.tide import tide_ap, tide_judged
from m2f_jax.eval.metrics.coco.mask_ap import CocoMaskAP
from m2f_jax.eval.metrics.coco.track_ap import TrackAP

from m2f_jax.masks.rle import encode_rle
from tests.eval.analysis.record_tide import FILE, draw_scene, tide_numbers
from tests.eval.metrics.cityscapes.conftest import evaluate, ids_of, load_golden


def numbers(scene, shape):
    """What `tide_numbers` returns, from this package."""
    if shape == "box":  # TIDE's boxes overlap as masks that fill them do
        scene = json.loads(json.dumps(scene))
        for one in [*scene["dataset"]["annotations"], *scene["results"]]:
            one["segmentation"] = filled_box(one["segmentation"])
    metric = CocoMaskAP(scene["dataset"])
    for image in scene["dataset"]["images"]:
        mine = [one for one in scene["results"] if one["image_id"] == image["id"]]
        keys = ("segmentation", "category_id", "score")
        metric.add(image["id"], *([one[key] for one in mine] for key in keys))
    found = analyze_errors(tide_judged(coco_overlaps(metric)), tide_ap)
    totals = found.counts.sum(axis=0).tolist()
    return {
        "AP50": 100 * found.ap,
        "gains": {error.name.lower(): 100 * found.gains[error] for error in Error},
        "counts": {error.name.lower(): totals[error] for error in Error},
        "without false positives": 100 * found.gain_false_positives,
        "without false negatives": 100 * found.gain_false_negatives,
    }


def filled_box(rle):
    mask = np.zeros(rle["size"], bool)
    left, top, width, height = coco_mask.toBbox(rle).astype(int)
    mask[top : top + height, left : left + width] = True
    return encode_rle(mask)


def assert_same(ours, theirs):
    assert ours["counts"] == theirs["counts"]
    assert ours["gains"] == pytest.approx(theirs["gains"], abs=1e-10)
    for name in ("AP50", "without false positives", "without false negatives"):
        assert ours[name] == pytest.approx(theirs[name], abs=1e-10)


@pytest.mark.parametrize("shape", ["mask", "box"])
def test_coco_errors_are_those_of_tide(shape):
    scenes = json.loads(FILE.read_text())
    assert len(scenes) == 13
    for scene in scenes:
        assert_same(numbers(scene, shape), scene["tide"][shape])


def test_tide_itself_says_the_same_of_other_scenes():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("tidecv", exc_type=ImportError)
    for seed in range(100, 130):
        scene = draw_scene(seed)
        if not scene["results"]:
            continue  # where tidecv divides by zero
        assert_same(numbers(scene, "mask"), tide_numbers(scene, "mask"))


def judged(**changes):
    """Two objects of class 0 and one of class 1, and one prediction of each kind of error."""
    rows = [  # class, score, matched object, overlaps with the three objects
        (0, 0.9, 0, (0.8, 0.0, 0.0)),  # right
        (0, 0.8, -1, (0.7, 0.0, 0.0)),  # a second one of the same object
        (1, 0.7, -1, (0.0, 0.6, 0.2 - 0.15)),  # the wrong class for object 1
        (0, 0.6, -1, (0.0, 0.3, 0.0)),  # a poor outline of object 1
        (1, 0.5, -1, (0.0, 0.4, 0.0)),  # neither class nor outline
        (1, 0.4, -1, (0.05, 0.0, 0.1 - 0.05)),  # on nothing
    ]
    overlaps = np.array([row[3] for row in rows])
    prediction, object_ = np.nonzero(overlaps)
    values = {
        "class_names": ("cat", "dog"),
        "classes": np.array([row[0] for row in rows]),
        "scores": np.array([row[1] for row in rows]),
        "ignored": np.zeros(len(rows), bool),
        "object_class": np.array([0, 0, 1]),
        "matched": np.array([row[2] for row in rows]),
        "pair_prediction": prediction,
        "pair_object": object_,
        "pair_iou": overlaps[prediction, object_],
    }
    return Judged(**values | changes)


def test_each_kind_by_hand():
    found = analyze_errors(judged(), tide_ap)
    assert found.kind.tolist() == [
        -1,
        Error.DUPLICATE,
        Error.CLASSIFICATION,
        Error.LOCALISATION,
        Error.BOTH,
        Error.BACKGROUND,
    ]
    # Object 1 can be had by mending, so that only the dog is missed.
    assert found.counts.tolist() == [[0, 1, 0, 1, 0, 0], [1, 0, 1, 0, 1, 1]]
    # Half of the cats are found before any false one; no dog is.
    assert found.ap == pytest.approx((51 / 101 + 0) / 2)
    # The dog that is a cat is better-scored than the poor outline, so mending outlines only
    # removes one; mending classes finds the second cat below one false cat.
    assert found.gains[Error.LOCALISATION] == 0
    assert found.gains[Error.CLASSIFICATION] == pytest.approx((50 / 101 * 2 / 3) / 2)
    # Without the missed dog, class 1 has predictions only, which TIDE counts as 0.
    assert found.gains[Error.MISSED] == 0
    assert found.gain_false_positives == 0
    assert found.gain_false_negatives == pytest.approx((1 - 51 / 101) / 2)


def test_the_reference_of_cityscapes_is_its_ap_at_one_half():
    for scene in load_golden()[0][::5]:
        result = evaluate_scene(scene)
        found = analyze_errors(
            cityscapes_judged(result.pool, result.matches).without_ignored(), cityscapes_ap
        )
        assert found.ap == pytest.approx(result.ap50, abs=1e-12, nan_ok=True)
        assert found.counts[:, Error.MISSED].sum() <= result.matches.counted.sum()


@pytest.mark.filterwarnings("ignore:the official script would fail")
def test_errors_of_cityscapes_by_hand():
    ids = ids_of(26000, 26001, 24000, 0, 7, 7, 26)  # cells of 10 x 10 pixels
    columns = [(0, 10), (0, 9), (20, 30), (10, 14), (30, 40), (40, 50), (60, 70)]
    result = evaluate(ids, columns, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    found = analyze_errors(
        cityscapes_judged(result.pool, result.matches).without_ignored(), cityscapes_ap
    )
    # Ignored ones, on void and on the group, are no errors.
    assert found.kind.tolist() == [
        -1,
        Error.DUPLICATE,
        Error.CLASSIFICATION,
        Error.LOCALISATION,
        Error.BACKGROUND,
    ]
    assert found.ap == pytest.approx((1 / 2 + 0) / 2)
    # The second car is then found below two false ones: a trapezoid from 1/3 to 2/4.
    assert found.gains[Error.LOCALISATION] == pytest.approx(1 / 2 * (1 / 3 + 1 / 2) / 2 / 2)
    assert found.gains[Error.CLASSIFICATION] == pytest.approx(1 / 2)


def evaluate_scene(scene):
    from m2f_jax.eval import CityscapesInstanceAP

    metric = CityscapesInstanceAP()
    for i, image in enumerate(scene.images):
        image.add_to(metric, image=str(i))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the official script would fail
        return metric.result()


def test_nothing_at_all():
    empty = np.zeros(0, int)
    none = judged(
        classes=empty,
        scores=np.zeros(0),
        ignored=np.zeros(0, bool),
        object_class=empty,
        matched=empty,
        pair_prediction=empty,
        pair_object=empty,
        pair_iou=np.zeros(0),
    )
    found = analyze_errors(none, tide_ap)
    assert math.isnan(found.ap)
    assert not found.counts.any()


def test_tracks_have_no_boundary():
    videos = {"videos": [], "categories": [{"id": 1, "name": "cat"}], "annotations": []}
    with pytest.raises(ValueError, match="they have no boundary"):
        coco_overlaps(TrackAP(videos), boundary=True)
