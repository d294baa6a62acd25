"""Boundary AP of instances as the authors of Boundary IoU define it on Cityscapes.

Cheng et al., "Boundary IoU: Improving Object-Centric Image Segmentation Evaluation", CVPR 2021.

Axes: P predictions, R regions.
"""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from numpy.typing import ArrayLike

from m2f_jax.masks.rle import decode_rle, encode_rle, sound_counts

from ..boundary import CITYSCAPES_DILATION_RATIO, boundary, enclosed, reach_of
from .image_tables import (
    Distances,
    ImageTable,
    check_predictions,
    load_tables,
    save_tables,
)
from .instance_ap import CityscapesInstanceAP, pool_of
from .matching import Pool
from .region_tables import Regions, count_rles

FORMAT = "CityscapesInstanceAPWithBoundary 1"  # what a file holds, and the version of its layout


@dataclass(frozen=True, eq=False, kw_only=True)
class BoundaryPool(Pool):
    """Predictions and regions of which a pair overlaps as much as its masks or boundaries do.

    Attributes:
        pair_rim_iou: intersection over union of the boundaries of each pair.
    """

    pair_rim_iou: Float64[np.ndarray, "pairs"]

    @cached_property
    def pair_iou(self) -> Float64[np.ndarray, "pairs"]:
        """The smaller one of both intersections over unions; void isn't taken from the unions."""
        areas = self.region_areas[self.pair_region] + self.areas[self.pair_prediction]
        return np.minimum(self.pair_pixels / (areas - self.pair_pixels), self.pair_rim_iou)


class CityscapesInstanceAPWithBoundary(CityscapesInstanceAP):
    """Cityscapes' instance AP and, from `boundary_pool`, Boundary AP.

    Boundary AP has the rules of the benchmark, but that the overlap of a prediction and an object
    is the smaller one of their masks' and of their boundaries', and that only regions whose
    boundary a prediction touches can excuse it. That is `evalInstanceLevelSemanticLabeling` of
    boundary_iou_api with its iou_type "boundary".
    """

    dilation_ratio = CITYSCAPES_DILATION_RATIO

    def __init__(self):
        super().__init__()
        self._rims: list[ImageTable] = []  # of the same images, of boundaries in place of masks

    def add(
        self,
        instance_ids: np.ndarray | Regions,
        masks: np.ndarray | Sequence[Any],
        labels: ArrayLike,
        scores: ArrayLike,
        image: str = "",
        distances: Distances | None = None,
    ):
        """Adds the predictions of one image; see `CityscapesInstanceAP.add`."""
        if not isinstance(instance_ids, Regions):
            with self._naming(image):
                instance_ids = Regions.of(np.asarray(instance_ids))
        super().add(instance_ids, masks, labels, scores, image, distances)
        self._rims = [*self._rims, self._rim_table(instance_ids, masks, labels, scores)]

    def add_table(self, *_: Any, **__: Any):
        """Isn't possible, since a table doesn't tell where boundaries are.

        Raises:
            TypeError: always.
        """
        raise TypeError("boundaries are counted from masks; use add in place of add_table")

    def merge(self, other: CityscapesInstanceAP):
        """Adds the images of another, such as another process accumulated.

        Raises:
            ValueError: an image is in both, only one has distances, or the other has no boundaries.
                Nothing was added.
        """
        if not isinstance(other, CityscapesInstanceAPWithBoundary):
            raise ValueError("the other metric has counted no boundaries")
        super().merge(other)
        self._rims = [*self._rims, *other._rims]

    def boundary_pool(self) -> BoundaryPool:
        """Returns the predictions and regions of all images, for Boundary AP."""
        both = sorted(
            zip(self._tables, self._rims, strict=True), key=lambda two: [x.order() for x in two]
        )
        pool, rims = (pool_of([two[side] for two in both]) for side in (0, 1))
        keys = [
            one.pair_prediction * (len(one.region_id) + 1) + one.pair_region for one in (pool, rims)
        ]
        _, kept, rim = np.intersect1d(*keys, assume_unique=True, return_indices=True)
        fields = {field.name: getattr(pool, field.name) for field in dataclasses.fields(pool)}
        for name in ("pair_prediction", "pair_region", "pair_pixels"):
            fields[name] = fields[name][kept]
        return BoundaryPool(**fields, pair_rim_iou=rims.pair_iou[rim])

    def save(self, path: str | os.PathLike):
        """Writes everything to one .npz file, which is complete or not there at all."""
        save_tables([*self._tables, *self._rims], path, FORMAT)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "CityscapesInstanceAPWithBoundary":
        """Reads what `save` wrote; see `CityscapesInstanceAP.load`."""
        metric, tables = cls(), load_tables(path, FORMAT)
        count = len(tables) // 2
        metric._extend(tables[:count])
        metric._rims = tables[count:]
        return metric

    def _rim_table(
        self,
        regions: Regions,
        masks: np.ndarray | Sequence[Any],
        labels: ArrayLike,
        scores: ArrayLike,
    ) -> ImageTable:
        """Returns the table of the boundaries of the last image's regions and predictions."""
        index = regions.index_map(regions.shape)
        is_inner = enclosed(index, reach_of(regions.shape, self.dilation_ratio))
        rims = Regions.of(np.where(is_inner, 0, regions.ids[index]))  # 0 is no object
        found = [
            encode_rle(boundary(mask, self.dilation_ratio))
            for mask in each_mask(masks, regions.shape)
        ]
        counts = count_rles(found, rims)
        table = ImageTable.of(
            rims, counts, *check_predictions(labels, scores, len(found)), "", None
        )
        own = np.searchsorted(rims.ids, regions.ids)  # all are there: no region is all inside
        return dataclasses.replace(
            self._tables[-1],
            region_areas=table.region_areas[own],
            areas=table.areas,
            table=table.table[:, own],
        )


def each_mask(
    masks: np.ndarray | Sequence[Any], shape: tuple[int, int]
) -> Iterator[Bool[np.ndarray, "H W"]]:
    """Yields bool masks, decoded if they are run lengths."""
    if isinstance(masks, Sequence):
        for counts in sound_counts(masks, shape):
            yield decode_rle(counts, shape)
    else:
        yield from np.asarray(masks)
