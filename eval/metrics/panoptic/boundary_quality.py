"""Boundary PQ, alone and beside panoptic quality.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m2f_jax.labels import Label

from ..boundary import DILATION_RATIO
from .panoptic_quality import PanopticQuality
from .segment_counts import ComparedSegments

PREFIX = "boundary "


class BoundaryPanopticQuality(PanopticQuality):
    """Boundary PQ (Cheng et al., "Boundary IoU", CVPR 2021), equal to the authors' scripts.

    The overlap of two segments is the smaller one of their masks' and of their boundaries', both
    without void; else all is as in `PanopticQuality`. The numbers are those of `pq_compute` (COCO)
    and `evaluatePanoptic` (Cityscapes) of boundary_iou_api with iou_type "boundary", where no
    segment has the id after that of the largest category, with which the scripts mark what
    boundaries enclose.
    """

    FORMAT = "BoundaryPanopticQuality 1"

    def __init__(
        self,
        categories: Sequence[Label | Mapping[str, Any]],
        dilation_ratio: float = DILATION_RATIO,
    ):
        """An empty metric.

        Args:
            categories: the data set's classes, as `PanopticQuality` takes them.
            dilation_ratio: how wide boundaries are, as a part of the image's diagonal. The authors
                have 0.02 for COCO and 0.005 for Cityscapes.

        Raises:
            ValueError: a category has no "isthing", or two share an id or a name.
        """
        super().__init__(categories)
        self.dilation_ratio = dilation_ratio

    def merge(self, other: PanopticQuality):
        """Takes over the images of another metric, such as another process's.

        Raises:
            ValueError: the categories, the dilation ratios or the kinds of metric differ, or an
                image is in both.
        """
        ratio = getattr(other, "dilation_ratio", self.dilation_ratio)
        if ratio != self.dilation_ratio:
            raise ValueError(
                f"boundaries of the dilation ratios {self.dilation_ratio} and {ratio} can't be "
                "merged; count all images by one of them"
            )
        super().merge(other)

    def _take(self, compared: ComparedSegments):
        self._extend([compared.boundary_outcomes(self.dilation_ratio)])

    def _arrays(self) -> dict[str, Any]:
        return super()._arrays() | {"dilation_ratio": np.float64(self.dilation_ratio)}

    def _fill(self, saved: Mapping[str, Any]):
        self.dilation_ratio = saved["dilation_ratio"]
        super()._fill(saved)


class PanopticQualityWithBoundary(PanopticQuality):
    """Panoptic quality, and Boundary PQ in `boundary`; each image is read and compared once."""

    FORMAT = "PanopticQualityWithBoundary 1"

    def __init__(
        self,
        categories: Sequence[Label | Mapping[str, Any]],
        dilation_ratio: float = DILATION_RATIO,
    ):
        """An empty metric; the arguments are those of `BoundaryPanopticQuality`."""
        super().__init__(categories)
        self.boundary = BoundaryPanopticQuality(categories, dilation_ratio)

    def merge(self, other: PanopticQuality):
        """Takes over the images of another metric; see `BoundaryPanopticQuality.merge`."""
        if isinstance(other, PanopticQualityWithBoundary):
            self.boundary.merge(other.boundary)
        super().merge(other)

    def _take(self, compared: ComparedSegments):
        super()._take(compared)
        self.boundary._take(compared)

    def _arrays(self) -> dict[str, Any]:
        of_boundary = self.boundary._arrays()
        return super()._arrays() | {PREFIX + name: of_boundary[name] for name in of_boundary}

    def _fill(self, saved: Mapping[str, Any]):
        super()._fill(saved)
        of_boundary = [name for name in saved if name.startswith(PREFIX)]
        self.boundary._fill({name.removeprefix(PREFIX): saved[name] for name in of_boundary})
