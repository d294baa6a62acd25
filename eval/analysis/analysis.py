"""The analysis of an evaluation: what is told of it besides its official numbers."""

import dataclasses
import functools
from dataclasses import dataclass
from typing import Any

from ..metrics.cityscapes.instance_ap import CityscapesInstanceAP
from ..metrics.cityscapes.instance_ap_result import InstanceAPResult, SizeAP
from ..metrics.coco.mask_ap import CocoMaskAP, MaskAPResult
from ..metrics.coco.track_ap import TrackAP
from ..metrics.panoptic.panoptic_quality import PanopticQuality, PanopticQualityResult
from ..metrics.semantic.scores import SemanticIoUResult
from ..metrics.semantic.semantic_iou import SemanticIoU
from .bootstrap import Intervals, intervals
from .boundary import BoundaryMeasure
from .confusion import Confusion, object_confusion, pixel_confusion, segment_confusion
from .errors import AveragePrecision, ErrorAnalysis, analyze_errors
from .matching.cityscapes import cityscapes_ap, cityscapes_judged, cityscapes_tally
from .matching.coco import SIZES, coco_tally
from .matching.coco_overlaps import coco_overlaps
from .matching.judged import Judged
from .matching.overlaps import Overlaps
from .matching.tide import tide_ap, tide_judged
from .tallies.instances import SHOWN, InstanceTally
from .tallies.pixels import PixelTally
from .tallies.segments import SegmentTally
from .tallies.tally import Tally, whole
from .thresholds import BestThreshold, best_thresholds


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceAnalysis:
    """The part of an analysis that only instances and tracks have.

    Attributes:
        tally: their tally.
        errors: what is wrong, and what mending it would bring.
        thresholds: the best one of each class.
        by_size: AP of small, medium and large objects; empty for tracks.
    """

    tally: InstanceTally
    errors: ErrorAnalysis
    thresholds: list[BestThreshold]
    by_size: dict[str, SizeAP]


@dataclass(frozen=True, eq=False, kw_only=True)
class Analysis:
    """The analysis of an evaluation of any task.

    Attributes:
        tally: what was counted in each image.
        intervals: scores with their bootstrap intervals.
        confusion: which classes are taken for which; of instances, those with a score from 0.5.
        instances: more about instances; None of other tasks.
        boundary: the boundary measure; None unless it was asked for.
    """

    tally: Tally
    intervals: Intervals
    confusion: Confusion
    instances: InstanceAnalysis | None = None
    boundary: BoundaryMeasure | None = None


def analyze(metric: Any, result: Any, boundary: BoundaryMeasure | None = None) -> Analysis:
    """Analyzes all images of a metric.

    Args:
        metric: one of the package's.
        result: what it returned.
        boundary: what `boundary_measure` returned, if it was asked for.

    Raises:
        TypeError: it is another metric.
    """
    return dataclasses.replace(analysis_of(metric, result), boundary=boundary)


@functools.singledispatch
def analysis_of(metric: Any, result: Any) -> Analysis:
    """Returns the analysis but for the boundary measure; see `analyze`."""
    del result
    raise TypeError(f"a {type(metric).__name__} isn't one of the metrics")


@analysis_of.register
def _(metric: PanopticQuality, result: PanopticQualityResult) -> Analysis:
    del result
    tally = SegmentTally.of(metric)
    return Analysis(tally=tally, intervals=intervals(tally), confusion=segment_confusion(metric))


@analysis_of.register
def _(metric: SemanticIoU, result: SemanticIoUResult) -> Analysis:
    tally = PixelTally.of(metric)
    return Analysis(tally=tally, intervals=intervals(tally), confusion=pixel_confusion(result))


@analysis_of.register
def _(metric: CityscapesInstanceAP, result: InstanceAPResult) -> Analysis:
    del metric
    pool, matches = result.pool, result.matches
    tally = cityscapes_tally(pool, matches)
    judged = cityscapes_judged(pool, matches).without_ignored()  # they are no errors
    by_size = dict(zip(SIZES, result.size_aps(), strict=True))
    return instance_analysis(tally, judged, cityscapes_ap, by_size)


@analysis_of.register
def _(metric: CocoMaskAP, result: MaskAPResult) -> Analysis:
    del result
    overlaps = coco_overlaps(metric)
    tally = coco_tally(overlaps)
    by_size = {}
    if not isinstance(metric, TrackAP):  # other ranges, and areas are means over frames
        by_size = {name: size_ap(overlaps, size) for name, size in SIZES.items()}
    return instance_analysis(tally, tide_judged(overlaps), tide_ap, by_size)


def size_ap(overlaps: Overlaps, size: tuple[float, float]) -> SizeAP:
    """Returns COCO's AP of the objects of one range of areas."""
    tally = coco_tally(overlaps, size)
    return SizeAP(
        min_area=size[0],
        max_area=size[1],
        num_objects=tally.objects.sum(axis=0),
        ap_matrix=tally.average_precisions(whole(len(tally.images)))[0],
    )


def instance_analysis(
    tally: InstanceTally,
    judged: Judged,
    average_precision: AveragePrecision,
    by_size: dict[str, SizeAP],
) -> Analysis:
    """Returns the analysis of instances."""
    more = InstanceAnalysis(
        tally=tally,
        errors=analyze_errors(judged, average_precision),
        thresholds=best_thresholds(tally),
        by_size=by_size,
    )
    return Analysis(
        tally=tally,
        intervals=intervals(tally),
        confusion=object_confusion(judged, SHOWN),
        instances=more,
    )
