"""How each task is evaluated: a segmentation of an image becomes a metric of that image.

There is one evaluation per task; `Dataset.rules` decides between Cityscapes' metrics and COCO's.
"""

from .choosing import Evaluation, evaluation_of
from .classes import matched_labels
from .instances import InstanceEvaluation
from .panoptic import PanopticEvaluation
from .semantic import SemanticEvaluation
from .tracks import TrackEvaluation

__all__ = [
    "Evaluation",
    "InstanceEvaluation",
    "PanopticEvaluation",
    "SemanticEvaluation",
    "TrackEvaluation",
    "evaluation_of",
    "matched_labels",
]
