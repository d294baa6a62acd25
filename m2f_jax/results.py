"""What a user gets: the segmentation of one image, as numpy arrays, and its file formats."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from m2f_jax.labels import Label


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceSegmentation:
    """The instances of one image, best score first; masks may overlap."""

    scores: Float[np.ndarray, "N"]
    labels: Int[np.ndarray, "N"]
    masks: Bool[np.ndarray, "N height width"]
    boxes: Float[np.ndarray, "N 4"]
    queries: Int[np.ndarray, "N"]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a panoptic map; `label` is a class index."""

    id: int
    label: int
    is_thing: bool
    score: float


@dataclass(frozen=True, eq=False, kw_only=True)
class PanopticSegmentation:
    """Every pixel's segment id; 0 is void."""

    segment_map: Int[np.ndarray, "height width"]
    segments: tuple[Segment, ...]
