"""Metrics of segmentation, equal to the official ones, and the evaluation of a model with them."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .evaluation import EvaluationError, evaluate
    from .metrics.cityscapes.device_tables import count_on_device
    from .metrics.cityscapes.instance_ap import CityscapesInstanceAP
    from .metrics.cityscapes.region_tables import Regions
    from .metrics.coco.lvis_ap import LvisMaskAP
    from .metrics.coco.mask_ap import CocoMaskAP
    from .metrics.panoptic.boundary_quality import BoundaryPanopticQuality
    from .metrics.panoptic.panoptic_quality import PanopticQuality
    from .metrics.semantic.semantic_iou import SemanticIoU
    from .results.evaluated import Evaluated

_HOMES = {  # imported when first asked for, so that scoring files needn't wait for JAX
    "BoundaryPanopticQuality": "metrics.panoptic.boundary_quality",
    "CityscapesInstanceAP": "metrics.cityscapes.instance_ap",
    "CocoMaskAP": "metrics.coco.mask_ap",
    "Evaluated": "results.evaluated",
    "EvaluationError": "evaluation",
    "LvisMaskAP": "metrics.coco.lvis_ap",
    "PanopticQuality": "metrics.panoptic.panoptic_quality",
    "Regions": "metrics.cityscapes.region_tables",
    "SemanticIoU": "metrics.semantic.semantic_iou",
    "count_on_device": "metrics.cityscapes.device_tables",
    "evaluate": "evaluation",
}

__all__ = [
    "BoundaryPanopticQuality",
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


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'm2f_jax.eval' has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
