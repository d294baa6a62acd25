import dataclasses
import itertools
import math
import warnings

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP, PanopticQuality, SemanticIoU
from m2f_jax.eval.analysis.analysis import analyze
from m2f_jax.eval.analysis.bootstrap import differences, drawn_images, intervals
from m2f_jax.eval.analysis.matching.cityscapes import cityscapes_tally
from m2f_jax.eval.analysis.matching.coco import SIZES, coco_tally
from m2f_jax.eval.analysis.matching.coco_overlaps import coco_overlaps
from m2f_jax.eval.analysis.tallies.files import load_tally, save_tally
from m2f_jax.eval.analysis.tallies.pixels import PixelTally
from m2f_jax.eval.analysis.tallies.segments import SegmentTally
from m2f_jax.eval.analysis.tallies.tally import mean_of_classes, whole
from m2f_jax.eval.analysis.thresholds import best_thresholds
from m2f_jax.eval.metrics.cityscapes.matching import Status
from m2f_jax.eval.metrics.coco.mask_ap import CocoMaskAP

from m2f_jax.labels import numbered
from tests.eval.metrics.cityscapes.conftest import load_golden
from tests.eval.metrics.coco.test_mask_ap import make_scene

WEIGHTS = np.array([[1, 1, 1, 1], [2, 0, 1, 3], [0, 0, 0, 1], [0, 1, 2, 0]])


def coco_metric(dataset, detections):
    metric = CocoMaskAP(dataset)
    for image, columns in detections.items():
        metric.add(image, *columns)
    return metric


def repeated(dataset, detections, weights):
    """The same with each image so many times; copies are neighbours in the order of the ids."""
    order = sorted(entry["id"] for entry in dataset["images"])
    images, annotations, found = [], [], {}
    for place, (image, weight) in enumerate(zip(order, weights, strict=True)):
        [entry] = (x for x in dataset["images"] if x["id"] == image)
        for copy in range(weight):
            new = 100 * place + copy
            images.append(entry | {"id": new})
            found[new] = detections[image]
            for one in dataset["annotations"]:
                if one["image_id"] == image:
                    annotations.append(one | {"id": len(annotations) + 1, "image_id": new})
    return dataset | {"images": images, "annotations": annotations}, found


def without_ties(detections, seed):
    rng = np.random.default_rng(seed)
    return {
        image: (masks, classes, rng.random(len(scores)).tolist())
        for image, (masks, classes, scores) in detections.items()
    }


@pytest.mark.parametrize("seed", range(8))
def test_coco_ap_is_the_official_one_for_all_sizes(seed):
    metric = coco_metric(*make_scene(seed, categories=4))
    result, overlaps = metric.result(), coco_overlaps(metric)
    tally = coco_tally(overlaps)
    [aps] = tally.average_precisions(whole(4))
    np.testing.assert_allclose(aps, result.precision.mean(axis=1).T, atol=1e-12)
    for size, name in zip(SIZES, ("aps", "apm", "apl"), strict=True):
        [ap] = mean_of_classes(coco_tally(overlaps, SIZES[size]).class_scores(whole(4)))
        assert ap == pytest.approx(getattr(result, name), abs=1e-12, nan_ok=True)


@pytest.mark.parametrize("seed", range(3))
def test_coco_ap_with_weights_is_that_of_repeated_images(seed):
    dataset, detections = make_scene(seed, categories=4)
    detections = without_ties(detections, seed)
    tally = coco_tally(coco_overlaps(coco_metric(dataset, detections)))
    found = tally.average_precisions(WEIGHTS)
    for aps, weights in zip(found, WEIGHTS, strict=True):
        want = coco_metric(*repeated(dataset, detections, weights)).result().precision
        np.testing.assert_allclose(aps, want.mean(axis=1).T, atol=1e-12)


def golden_metric(scene, weights):
    metric = CityscapesInstanceAP()
    for i, (image, weight) in enumerate(zip(scene.images, weights, strict=True)):
        for copy in range(weight):
            image.add_to(metric, image=f"{i} {copy}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where the official script would fail
        return metric.result()


def test_cityscapes_ap_with_weights_is_that_of_repeated_images():
    scenes = [scene for scene in load_golden()[0] if len(scene.images) == 3][:10]
    assert len(scenes) > 5
    for scene in scenes:
        result = golden_metric(scene, [1, 1, 1])
        tally = cityscapes_tally(result.pool, result.matches)
        weights = np.array([[1, 1, 1], [2, 0, 1], [0, 1, 3]])
        found = tally.average_precisions(weights)
        for aps, row in zip(found, weights, strict=True):
            np.testing.assert_allclose(aps, golden_metric(scene, row).ap_matrix, atol=1e-12)


def panoptic_metric(weights, seed=0):
    metric, rng = PanopticQuality(numbered(5)), np.random.default_rng(seed)
    for i, weight in enumerate(weights):
        truth = rng.integers(0, 6, (6, 8)).repeat(5, 0).repeat(5, 1)
        found = np.where(rng.random(truth.shape) < 0.8, truth, rng.integers(0, 6, truth.shape))
        lists = [
            [{"id": int(k), "category_id": int(k) % 5 + 1} for k in np.unique(x) if k]
            for x in (truth, found)
        ]
        for copy in range(weight):
            metric.add(truth, lists[0], found, lists[1], image=f"{i} {copy}")
    return metric


def semantic_metric(weights, seed=0):
    metric, rng = SemanticIoU(numbered(5), ignore=5), np.random.default_rng(seed)
    for i, weight in enumerate(weights):
        truth = rng.integers(0, 6, (6, 8))
        found = np.where(rng.random(truth.shape) < 0.6, truth, rng.integers(0, 3, truth.shape))
        for copy in range(weight):
            metric.add(truth, found, image=f"{i} {copy}")
    return metric


def test_quality_and_iou_with_weights_are_those_of_repeated_images():
    segments = SegmentTally.of(panoptic_metric([1] * 4)).class_scores(WEIGHTS)
    pixels = PixelTally.of(semantic_metric([1] * 4)).class_scores(WEIGHTS)
    for i, weights in enumerate(WEIGHTS):
        quality = panoptic_metric(weights).result()
        want = [x.pq if x.tp + x.fp + x.fn else math.nan for x in quality.per_class.values()]
        np.testing.assert_allclose(segments[i], want, atol=1e-12)
        assert mean_of_classes(segments[i]) == pytest.approx(quality.all.pq)
        iou = semantic_metric(weights).result()
        np.testing.assert_allclose(pixels[i], [x.iou for x in iou.per_class.values()], atol=1e-12)
        assert mean_of_classes(pixels[i]) == pytest.approx(iou.miou)


def every_tally():
    coco = coco_tally(coco_overlaps(coco_metric(*make_scene(0))))
    return [
        coco,
        SegmentTally.of(panoptic_metric([1] * 4)),
        PixelTally.of(semantic_metric([1] * 4)),
    ]


def test_a_tally_is_the_same_from_its_file(tmp_path):
    for tally in every_tally():
        save_tally(tmp_path / "tally.npz", tally)
        again = load_tally(tmp_path / "tally.npz")
        assert type(again) is type(tally)
        for field in dataclasses.fields(tally):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(tally, field.name))


def test_scores_of_images():
    _, segments, pixels = every_tally()
    for i in range(4):
        alone = np.eye(4, dtype=int)[i]
        assert segments.image_scores()[i] == pytest.approx(panoptic_metric(alone).result().all.pq)
        assert pixels.image_scores()[i] == pytest.approx(semantic_metric(alone).result().miou)
    [scene] = itertools.islice((x for x in load_golden()[0] if len(x.images) == 3), 1)
    result = golden_metric(scene, [1, 1, 1])
    tally, want = cityscapes_tally(result.pool, result.matches), result.image_counts(0.5)
    for name, column in (("right", want.true), ("false", want.false), ("missed", want.missed)):
        assert tally.image_counts()[name].tolist() == column.sum(axis=1).tolist()


def test_intervals_are_those_of_drawn_images():
    for tally in every_tally():
        found = intervals(tally, resamples=40, seed=3)
        weights = drawn_images(4, 40, 3)
        assert (weights.sum(axis=1) == 4).all()
        samples = [mean_of_classes(tally.class_scores(row[None])[0]) for row in weights]
        want = np.nanquantile(samples, [0.025, 0.975])
        assert [found.low, found.high] == pytest.approx(want.tolist())
        assert found.score == pytest.approx(float(mean_of_classes(tally.class_scores(whole(4)))[0]))
        assert intervals(tally, 40, seed=4).class_low.tolist() != found.class_low.tolist()


def test_differences_are_paired():
    _, segments, pixels = every_tally()
    for tally in (segments, pixels):
        same = differences(tally, tally, 20)
        assert (same.score, same.low, same.high, same.better) == (0, 0, 0, 0)
    worse = PixelTally.of(semantic_metric([1] * 4, seed=1))
    found = differences(pixels, worse, 50, seed=2)
    weights = drawn_images(4, 50, 2)
    pairs = [mean_of_classes(x.class_scores(weights)) for x in (pixels, worse)]
    want = np.nanquantile(pairs[1] - pairs[0], [0.025, 0.975])
    assert [found.low, found.high] == pytest.approx(want.tolist())
    assert found.better == (pairs[1] > pairs[0]).mean()


def test_the_best_threshold_is_the_best_of_all():
    for seed in range(4):
        tally = coco_tally(coco_overlaps(coco_metric(*make_scene(seed))))
        for k, found in enumerate(best_thresholds(tally)):
            objects, mine = tally.objects[:, k].sum(), tally.classes == k
            options = []
            for score in np.unique(tally.scores[mine]):
                status = tally.status[mine & (tally.scores >= score), 0]
                true, false = ((status == kind).sum() for kind in (Status.TRUE, Status.FALSE))
                if true:
                    options.append((2 * true / (true + false + objects), score, true, false))
            if not options:
                assert math.isnan(found.score)
                assert found.f1 == (0 if objects else pytest.approx(math.nan, nan_ok=True))
                continue
            best, score, true, false = max(options)
            assert found.score == score
            got = [found.f1, found.precision, found.recall]
            assert got == pytest.approx([best, true / (true + false), true / objects])


def test_no_image_at_all():
    for metric in (PanopticQuality(numbered(2)), SemanticIoU(numbered(2)), CityscapesInstanceAP()):
        found = analyze(metric, metric.result())
        assert math.isnan(found.intervals.score)
        assert math.isnan(found.intervals.low)
