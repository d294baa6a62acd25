"""Metrics of segmentation, equal to the official ones, and the evaluation of a model with them."""

from .evaluation import EvaluationError, evaluate
from .metrics.cityscapes.instance_ap import CityscapesInstanceAP
from .metrics.cityscapes.region_tables import Regions, count_on_device
from .metrics.coco.lvis_ap import LvisMaskAP
from .metrics.coco.mask_ap import CocoMaskAP
from .metrics.panoptic.panoptic_quality import PanopticQuality
from .metrics.semantic.semantic_iou import SemanticIoU
from .results.evaluated import Evaluated

__all__ = [
    "CityscapesInstanceAP",
    "CocoMaskAP",
    "Evaluated",
    "EvaluationError",
    "LvisMaskAP",
    "PanopticQuality",
    "Regions",
    "SemanticIoU",
    "count_on_device",
    "evaluate",
]
