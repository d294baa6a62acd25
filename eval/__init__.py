"""Metrics of segmentation, equal to the official ones."""

from .cityscapes_ap import CityscapesInstanceAP
from .coco_ap import CocoMaskAP
from .panoptic_quality import PanopticQuality
from .region_tables import Regions, count_on_device
from .semantic_iou import SemanticIoU

__all__ = [
    "CityscapesInstanceAP",
    "CocoMaskAP",
    "PanopticQuality",
    "Regions",
    "SemanticIoU",
    "count_on_device",
]
