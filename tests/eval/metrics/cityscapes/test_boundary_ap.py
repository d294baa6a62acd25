"""Boundary AP is what the rules of its authors' script give, in that script's order."""

import functools

import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP
from m2f_jax.eval.analysis.boundary import boundary_measure
from m2f_jax.eval.metrics.boundary import boundary
from m2f_jax.eval.metrics.cityscapes.boundary_ap import CityscapesInstanceAPWithBoundary
from m2f_jax.eval.metrics.cityscapes.image_tables import CLASSES
from m2f_jax.eval.metrics.cityscapes.instance_ap import VOID_IDS
from m2f_jax.eval.metrics.cityscapes.matching import OVERLAPS

from m2f_jax.masks.rle import encode_rle
from tests.eval.metrics.cityscapes.conftest import load_golden

RATIO = 0.005
TOLERANCE = 1e-12  # sums of products, in whatever order


def rules(images, by_boundary):
    """AP by class and overlap, in loops over images, objects and predictions."""
    pairs = [pairs_of(image, by_boundary) for image in images]
    aps = np.full((len(CLASSES), len(OVERLAPS)), np.nan)
    for k, label in enumerate(CLASSES):
        for t, overlap in enumerate(OVERLAPS):
            counted = [judged(one[label.id], overlap) for one in pairs]
            objects = sum(number for number, _ in counted)
            rows = [row for _, found in counted for row in found]
            if objects:
                aps[k, t] = area_of(rows, objects) if rows else 0.0
    return aps


def pairs_of(image, by_boundary):
    """For each class: regions (id, pixels), predictions, and what each two share."""
    ids, rim = image.instance_ids, functools.partial(boundary, dilation_ratio=RATIO)
    void = np.isin(ids, VOID_IDS)
    of_class = {}
    for label in CLASSES:
        known = [i for i in np.unique(ids).tolist() if i == label.id or i // 1000 == label.id]
        regions = [(i, ids == i) for i in known]
        found = []
        for mask, of, score in zip(image.masks, image.labels, image.scores, strict=True):
            if of != label.id or not mask.any():
                continue
            shared = {}
            for i, region in regions:
                pixels, iou = overlap_of(region, mask)
                touches = True
                if by_boundary:
                    edge_pixels, edge_iou = overlap_of(rim(region), rim(mask))
                    touches, iou = edge_pixels > 0, min(iou, edge_iou)
                if pixels and touches:
                    shared[i] = pixels, iou
            found.append((score, mask.sum(), (mask & void).sum(), shared))
        of_class[label.id] = [(i, region.sum()) for i, region in regions], found
    return of_class


def overlap_of(one, other):
    shared = (one & other).sum()
    return shared, shared / (one | other).sum()


def judged(pairs, overlap):
    """The number of objects; score and truth of each prediction that counts."""
    regions, found = pairs
    rows, objects = [], [i for i, pixels in regions if i >= 1000 and pixels >= 100]
    for i in objects:
        of_object = [one[0] for one in found if i in one[3] and one[3][i][1] > overlap]
        best = max(of_object, default=None)
        rows += [(best, True)] * bool(of_object)
        rows += [(score, False) for score in sorted(of_object)[:-1]]
    for score, pixels, ignored, shared in found:
        if any(iou > overlap for _, iou in shared.values()):
            continue
        for i, area in regions:
            if i in shared:
                ignored = ignored + shared[i][0] * (int(i < 1000) + int(area < 100))
        if ignored / pixels <= overlap:
            rows.append((score, False))
    return len(objects), rows


def area_of(rows, objects):
    """The benchmark's area under the curve of precision over recall."""
    precision, recall = [], []
    for least in np.unique([score for score, _ in rows]):
        kept = [is_true for score, is_true in rows if score >= least]
        precision.append(sum(kept) / len(kept))
        recall.append(sum(kept) / objects)
    recall = [recall[0], *recall, 0.0, 0.0]
    steps = [(recall[n] - recall[n + 2]) / 2 for n in range(len(precision) + 1)]
    return np.dot([*precision, 1.0], steps)


@pytest.fixture(scope="module")
def scenes():
    """The golden scenes without distances, every third of them."""
    scenes, _ = load_golden()
    for scene in scenes:
        for image in scene.images:
            image.distances = None
    return scenes[::3]


def metric_of(images):
    metric = CityscapesInstanceAPWithBoundary()
    for image in images:
        image.add_to(metric)
    return metric


def test_the_numbers_are_those_of_the_rules(scenes, tmp_path):
    below = 0
    for scene in scenes:
        aps = rules(scene.images, by_boundary=False)  # else the loops would prove nothing
        np.testing.assert_allclose(aps, scene.ap_matrix[0], rtol=0, atol=TOLERANCE)
        aps = rules(scene.images, by_boundary=True)
        metric = CityscapesInstanceAPWithBoundary()
        for k, image in enumerate(scene.images):
            part = metric_of([image])
            part.save(tmp_path / f"{k}.npz")
        for k in reversed(range(len(scene.images))):
            metric.merge(CityscapesInstanceAPWithBoundary.load(tmp_path / f"{k}.npz"))
        found = boundary_measure(metric)
        want = [aps.mean(axis=1), aps[:, 0]]
        for name, column in zip(("AP", "AP50"), want, strict=True):
            ours = [row[name] for row in found.numbers["per_class"].values()]
            np.testing.assert_allclose(ours, column, rtol=0, atol=TOLERANCE)
        known = aps[~np.isnan(aps)]
        mean = known.mean() if len(known) else np.nan
        np.testing.assert_allclose(found.scores["Boundary AP"], mean, rtol=0, atol=TOLERANCE)
        below += mean < scene.averages[0] - 0.01
    assert below > len(scenes) / 3


def test_run_lengths_count_the_same_and_metrics_of_masks_are_refused(scenes):
    images = next(scene.images for scene in scenes if not scene.official_fails)
    whole = boundary_measure(metric_of(images)).numbers
    official = metric_of(images).result().ap_matrix
    for image in images:
        image.masks = [encode_rle(mask) for mask in image.masks]
    assert str(boundary_measure(metric_of(images)).numbers) == str(whole)
    metric = metric_of(images)
    np.testing.assert_array_equal(metric.result().ap_matrix, official)
    with pytest.raises(ValueError, match="counted no boundaries"):
        metric.merge(CityscapesInstanceAP())
    with pytest.raises(TypeError, match="use add in place of add_table"):
        metric.add_table()
