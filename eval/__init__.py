"""Metrics of segmentation, equal to the official ones, and the evaluation of a model with them."""

from .evaluation import Evaluated, EvaluationError, evaluate
from .metrics.coco.lvis_ap import LvisMaskAP
from .metrics.coco.mask_ap import CocoMaskAP
from .metrics.instances.cityscapes_ap import CityscapesInstanceAP
from .metrics.instances.region_tables import Regions, count_on_device
from .metrics.panoptic.panoptic_quality import PanopticQuality
from .metrics.semantic.semantic_iou import SemanticIoU

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
