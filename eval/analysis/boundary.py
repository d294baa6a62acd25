"""Boundary AP and Boundary PQ of a metric (Cheng et al., "Boundary IoU", CVPR 2021)."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ..metrics.boundary import DILATION_RATIO
from ..metrics.cityscapes.boundary_ap import CityscapesInstanceAPWithBoundary
from ..metrics.cityscapes.instance_ap import EVERYWHERE
from ..metrics.cityscapes.matching import average_precisions, match, mean_ap
from ..metrics.coco.mask_ap import CocoMaskAP
from ..metrics.panoptic.boundary_quality import PanopticQualityWithBoundary
from .bootstrap import Intervals, intervals
from .matching.cityscapes import cityscapes_tally
from .matching.coco import coco_tally
from .matching.coco_overlaps import coco_overlaps
from .tallies.boundary import BoundaryTally
from .tallies.instances import InstanceTally
from .tallies.segments import SegmentTally
from .tallies.tally import mean_of_classes, whole


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundaryMeasure(BoundaryTally):
    """The boundary measure of an evaluation, as fractions; NaN where there is nothing to score.

    Attributes:
        scores: the headline numbers by name, the first one that of all classes.
        column: the score of each class, then those of the groups of classes that a table of the
            ordinary scores ends with, the last of them all classes.
        numbers: all of it as plain values.
    """

    scores: Mapping[str, float]
    column: Sequence[float]
    numbers: Mapping[str, Any]

    @functools.cached_property
    def intervals(self) -> Intervals:
        """The scores with their bootstrap intervals."""
        return intervals(self.tally)

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers, and by which boundaries they were counted."""
        return {"score": self.name, "dilation_ratio": self.dilation_ratio, **self.numbers}


@functools.singledispatch
def boundary_measure(metric: Any) -> BoundaryMeasure:
    """Scores all images of a metric by boundaries; of COCO's instances, this takes a while.

    Raises:
        TypeError: the metric has no boundary measure.
        ValueError: it is one of tracks, which have none.
    """
    raise TypeError(f"a {type(metric).__name__} has no boundary measure")


@boundary_measure.register
def _(metric: PanopticQualityWithBoundary) -> BoundaryMeasure:
    result = metric.boundary.result()
    rows = [*result.per_class.values(), result.things, result.stuff, result.all]
    return BoundaryMeasure(
        tally=SegmentTally.of(metric.boundary),
        dilation_ratio=metric.boundary.dilation_ratio,
        scores={"Boundary PQ": result.all.pq},
        column=[row.pq for row in rows],
        numbers=result.to_json(),
    )


@boundary_measure.register
def _(metric: CityscapesInstanceAPWithBoundary) -> BoundaryMeasure:
    pool = metric.boundary_pool()
    matches = match(pool, EVERYWHERE)
    aps = average_precisions(pool, matches)
    tally, columns = cityscapes_tally(pool, matches), {"AP": aps.mean(axis=1), "AP50": aps[:, 0]}
    means = {"AP": mean_ap(aps), "AP50": mean_ap(aps[:, 0])}
    return ap_measure(tally, metric.dilation_ratio, means, columns)


@boundary_measure.register
def _(metric: CocoMaskAP) -> BoundaryMeasure:
    tally = coco_tally(coco_overlaps(metric, boundary=True))
    [aps] = tally.average_precisions(whole(len(tally.images)))
    columns = {"AP": aps.mean(axis=1), "AP50": aps[:, 0], "AP75": aps[:, 5]}
    means = {name: float(mean_of_classes(column)) for name, column in columns.items()}
    return ap_measure(tally, DILATION_RATIO, means, columns)


def ap_measure(
    tally: InstanceTally,
    dilation_ratio: float,
    means: Mapping[str, float],
    columns: Mapping[str, Float64[np.ndarray, "K"]],
) -> BoundaryMeasure:
    """Returns Boundary AP.

    Args:
        tally: what was counted.
        dilation_ratio: how wide boundaries are.
        means: the numbers of all classes: "AP", "AP50" and so on.
        columns: the same of each class.
    """
    rows = np.stack([*columns.values()], axis=1).tolist()
    per_class = {
        name: dict(zip(columns, row, strict=True))
        for name, row in zip(tally.class_names, rows, strict=True)
    }
    return BoundaryMeasure(
        tally=tally,
        dilation_ratio=dilation_ratio,
        scores={f"Boundary {name}": mean for name, mean in means.items()},
        column=[*columns["AP"].tolist(), means["AP"]],
        numbers={**means, "per_class": per_class},
    )
