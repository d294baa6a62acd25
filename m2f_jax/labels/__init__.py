"""The classes of models: of published data sets, of files, or chosen by name."""

from m2f_jax.labels.label import Label, numbered, things
from m2f_jax.labels.published import (
    ADE20K,
    ADE20K_FULL,
    CITYSCAPES,
    COCO,
    COCO_STUFF,
    MAPILLARY_VISTAS,
    NAMED_LABELS,
    YOUTUBEVIS_2019,
    YOUTUBEVIS_2021,
    published_labels,
)

__all__ = [
    "ADE20K",
    "ADE20K_FULL",
    "CITYSCAPES",
    "COCO",
    "COCO_STUFF",
    "MAPILLARY_VISTAS",
    "NAMED_LABELS",
    "YOUTUBEVIS_2019",
    "YOUTUBEVIS_2021",
    "Label",
    "numbered",
    "published_labels",
    "things",
]
