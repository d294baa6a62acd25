"""Metrics of segmentation, equal to the official ones."""

from .cityscapes_ap import CityscapesInstanceAP
from .coco_ap import CocoMaskAP
from .panoptic_quality import PanopticQuality
from .semantic_iou import SemanticIoU

__all__ = ["CityscapesInstanceAP", "CocoMaskAP", "PanopticQuality", "SemanticIoU"]
