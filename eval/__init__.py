"""Metrics of segmentation, equal to the official ones, and the evaluation of a model with them."""

from .evaluation import Evaluated, EvaluationError, evaluate
from .metrics.cityscapes_ap import CityscapesInstanceAP
from .metrics.coco_ap import CocoMaskAP
from .metrics.panoptic_quality import PanopticQuality
from .metrics.region_tables import Regions, count_on_device
from .metrics.semantic_iou import SemanticIoU

__all__ = [
    "CityscapesInstanceAP",
    "CocoMaskAP",
    "Evaluated",
    "EvaluationError",
    "PanopticQuality",
    "Regions",
    "SemanticIoU",
    "count_on_device",
    "evaluate",
]
