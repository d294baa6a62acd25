"""All that is told of an evaluation besides its official numbers."""

import functools
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ..metrics.coco.mask_ap import CocoMaskAP, CocoMaskAPResult
from ..metrics.coco.track_ap import TrackAP
from ..metrics.instances.cityscapes_ap import CityscapesInstanceAP
from ..metrics.instances.report_data import InstanceAPResult
from ..metrics.panoptic.panoptic_quality import PanopticQuality, PanopticQualityResult
from ..metrics.semantic.scores import SemanticIoUResult
from ..metrics.semantic.semantic_iou import SemanticIoU
from .best_threshold import BestThreshold, best_thresholds
from .bootstrap import Intervals, intervals
from .cityscapes import cityscapes_ap, cityscapes_judged, cityscapes_tally
from .coco_matching import SIZES, coco_tally
from .coco_overlaps import coco_overlaps
from .errors import ErrorAnalysis, analyze_errors
from .tallies.instances import InstanceTally
from .tallies.pixels import PixelTally
from .tallies.segments import SegmentTally
from .tallies.tally import Tally, whole
from .tide_matching import tide_ap, tide_judged


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceAnalysis:
    """What is told of instances and tracks only.

    Attributes:
        tally: their tally.
        errors: what is wrong, and what mending it would bring.
        thresholds: the best one of each class.
        by_size: AP of each class, of small, medium and large objects; empty for tracks.
        boundary_aps: Boundary AP of each class at each overlap; None unless it was asked for.
    """

    tally: InstanceTally
    errors: ErrorAnalysis
    thresholds: list[BestThreshold]
    by_size: dict[str, Float64[np.ndarray, "K"]]
    boundary_aps: Float64[np.ndarray, "K T"] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Analysis:
    """What is told of any task.

    Attributes:
        tally: what was counted in each image.
        intervals: scores with their bootstrap intervals.
        instances: more about instances; None of other tasks.
    """

    tally: Tally
    intervals: Intervals
    instances: InstanceAnalysis | None = None


@functools.singledispatch
def analyze(metric: Any, result: Any, *, boundary: bool = False) -> Analysis:
    """Analyzes all images of a metric.

    Args:
        metric: one of the package's.
        result: what it returned.
        boundary: whether Boundary AP is computed too, which takes a while; COCO's instances only.

    Raises:
        TypeError: it is another metric, or it has no Boundary AP.
    """
    del result, boundary
    raise TypeError(f"a {type(metric).__name__} isn't one of the metrics")


@analyze.register
def _(metric: PanopticQuality, result: PanopticQualityResult) -> Analysis:
    del result
    tally = SegmentTally.of(metric)
    return Analysis(tally=tally, intervals=intervals(tally))


@analyze.register
def _(metric: SemanticIoU, result: SemanticIoUResult) -> Analysis:
    del result
    tally = PixelTally.of(metric)
    return Analysis(tally=tally, intervals=intervals(tally))


@analyze.register
def _(metric: CityscapesInstanceAP, result: InstanceAPResult) -> Analysis:
    del metric
    pool, matches = result.pool, result.matches
    tally = cityscapes_tally(pool, matches)
    errors = analyze_errors(cityscapes_judged(pool, matches), cityscapes_ap)
    parts = zip(SIZES, result.size_aps(), strict=True)
    by_size = {name: part.ap_matrix.mean(axis=1) for name, part in parts}
    return of_instances(tally, errors, by_size)


@analyze.register
def _(metric: CocoMaskAP, result: CocoMaskAPResult, *, boundary: bool = False) -> Analysis:
    del result
    overlaps = coco_overlaps(metric)
    tally = coco_tally(overlaps)
    by_size = {}
    if not isinstance(metric, TrackAP):  # whose sizes are others, and areas means over frames
        parts = {name: coco_tally(overlaps, size) for name, size in SIZES.items()}
        by_size = {
            name: part.class_scores(whole(len(part.images)))[0] for name, part in parts.items()
        }
    boundary_aps = None
    if boundary:
        rims = coco_tally(coco_overlaps(metric, "boundary"))
        [boundary_aps] = rims.average_precisions(whole(len(rims.images)))
    errors = analyze_errors(tide_judged(overlaps), tide_ap)
    return of_instances(tally, errors, by_size, boundary_aps)


def of_instances(
    tally: InstanceTally,
    errors: ErrorAnalysis,
    by_size: dict[str, Float64[np.ndarray, "K"]],
    boundary_aps: Float64[np.ndarray, "K T"] | None = None,
) -> Analysis:
    """The analysis of instances."""
    more = InstanceAnalysis(
        tally=tally,
        errors=errors,
        thresholds=best_thresholds(tally),
        by_size=by_size,
        boundary_aps=boundary_aps,
    )
    return Analysis(tally=tally, intervals=intervals(tally), instances=more)
