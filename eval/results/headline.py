"""The headline numbers of a result, by the names of the model zoo."""

import functools
from typing import Any

from ..analysis.boundary import BoundaryMeasure
from ..metrics.cityscapes.instance_ap_result import InstanceAPResult
from ..metrics.coco.mask_ap import MaskAPResult
from ..metrics.panoptic.panoptic_quality import PanopticQualityResult
from ..metrics.semantic.scores import SemanticIoUResult

MAIN_SCORES = {"instance": "AP", "panoptic": "PQ", "semantic": "mIoU"}


def scores_of(result: Any, boundary: BoundaryMeasure | None) -> dict[str, float]:
    """Returns the headline numbers in percent, those of the boundary measure included."""
    more = {} if boundary is None else boundary.scores
    return headline_scores(result) | {name: 100 * score for name, score in more.items()}


@functools.singledispatch
def headline_scores(result: Any) -> dict[str, float]:
    """Returns the headline numbers in percent."""
    raise TypeError(f"a {type(result).__name__} isn't the result of a metric")


@headline_scores.register
def _(result: InstanceAPResult) -> dict[str, float]:
    return {"AP": 100 * result.ap, "AP50": 100 * result.ap50}


@headline_scores.register
def _(result: MaskAPResult) -> dict[str, float]:
    return {"AP": 100 * result.ap, "AP50": 100 * result.ap50, "AP75": 100 * result.ap75}


@headline_scores.register
def _(result: PanopticQualityResult) -> dict[str, float]:
    return {"PQ": 100 * result.all.pq}


@headline_scores.register
def _(result: SemanticIoUResult) -> dict[str, float]:
    return {"mIoU": 100 * result.miou}
