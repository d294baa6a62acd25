"""Boundary PQ by its authors' rules, alone and beside PQ."""

import numpy as np
import pytest
from m2f_jax.eval.metrics.panoptic.boundary_quality import (
    BoundaryPanopticQuality,
    PanopticQualityWithBoundary,
)
from m2f_jax.eval.metrics.panoptic.panoptic_quality import PanopticQuality

from tests.eval.metrics.panoptic.images import CATEGORIES, counts, segment


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
