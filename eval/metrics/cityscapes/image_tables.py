"""What instance metrics keep of an image: a table of shared pixels, checked, and its file format.

Axes: P predictions, R regions, C columns of a table that was counted elsewhere.
"""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, Int64
from numpy.typing import ArrayLike

from m2f_jax.labels import CITYSCAPES, things

from ..array_files import save_arrays, saved_arrays
from .region_tables import KNOWN_LABELS, PixelCounts, Regions

CLASSES = things(CITYSCAPES)
TRAIN_IDS_OF_THINGS = range(11, 19)  # of these classes
UNKNOWN_DISTANCE = (-1.0, 0.0)
FORMAT = "m2f_jax CityscapesInstanceAP 1"  # what a file holds, and the version of its layout

Distances = Mapping[int, tuple[float, float]]


@dataclass(frozen=True, eq=False, kw_only=True)
class ImageTable:
    """The regions and predictions of one image, and the pixels that they share.

    Attributes:
        image: its name.
        has_distances: whether the distances of its objects were given.
        ids: the instance id of each region.
        region_areas: its pixels.
        distances: its median distance and the confidence of that; -1 and 0 where unknown.
        labels: the label id of each prediction.
        scores: its score.
        areas: its pixels.
        table: the pixels that each prediction shares with each region.
    """

    image: str
    has_distances: bool
    ids: Int32[np.ndarray, "R"]
    region_areas: Int64[np.ndarray, "R"]
    distances: Float64[np.ndarray, "R 2"]
    labels: Int64[np.ndarray, "P"]
    scores: Float64[np.ndarray, "P"]
    areas: Int64[np.ndarray, "P"]
    table: Int32[np.ndarray, "P R"]

    @classmethod
    def of(
        cls,
        regions: Regions,
        counts: PixelCounts,
        labels: Int64[np.ndarray, "P"],
        scores: Float64[np.ndarray, "P"],
        image: str,
        distances: Distances | None,
    ) -> "ImageTable":
        """Keeps the predictions of evaluated classes that have pixels.

        Raises:
            ValueError: the distances aren't such, or are of other regions.
        """
        kept = np.isin(labels, [label.id for label in CLASSES]) & (counts.areas > 0)
        return cls(
            image=image,
            has_distances=distances is not None,
            ids=regions.ids,
            region_areas=regions.areas,
            distances=_region_distances(regions, distances or {}),
            labels=labels[kept],
            scores=scores[kept],
            areas=counts.areas[kept],
            table=counts.table[kept],
        )

    def order(self) -> tuple:
        """Returns a key that sorts images the same way, in whatever order they came."""
        return self.image, *(getattr(self, name).tobytes() for name in ARRAYS)


ARRAYS = ("ids", "region_areas", "distances", "labels", "scores", "areas", "table")
EMPTY = ImageTable(
    image="",
    has_distances=False,
    ids=np.zeros(0, np.int32),
    region_areas=np.zeros(0, np.int64),
    distances=np.zeros((0, 2)),
    labels=np.zeros(0, np.int64),
    scores=np.zeros(0),
    areas=np.zeros(0, np.int64),
    table=np.zeros((0, 0), np.int32),
)


def _region_distances(regions: Regions, distances: Distances) -> Float64[np.ndarray, "R 2"]:
    unknown = sorted(distances.keys() - set(regions.ids.tolist()))
    if unknown:
        raise ValueError(f"distances are given for {unknown[:10]}, which the instance ids lack")
    pairs = [distances.get(id_, UNKNOWN_DISTANCE) for id_ in regions.ids.tolist()]
    array = np.array(pairs, np.float64).reshape(len(regions), 2)
    if np.isnan(array).any():
        raise ValueError("a distance or its confidence is NaN; leave out objects without one")
    return array


def check_predictions(
    labels: ArrayLike, scores: ArrayLike, num_masks: int
) -> tuple[Int64[np.ndarray, "P"], Float64[np.ndarray, "P"]]:
    """Returns labels and scores as arrays of int64 and float64.

    Raises:
        ValueError: they can't be label ids and scores of so many masks.
    """
    labels, scores = np.asarray(labels), np.asarray(scores)
    if labels.shape != (num_masks,) or scores.shape != (num_masks,):
        raise ValueError(
            f"{num_masks} masks, labels of shape {list(labels.shape)} and scores of shape "
            f"{list(scores.shape)}; each mask needs one label and one score"
        )
    if num_masks and labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers, Cityscapes label ids, not {labels.dtype}")
    if num_masks and scores.dtype.kind not in "fiu":
        raise ValueError(f"scores must be floats, not {scores.dtype}")
    labels, scores = labels.astype(np.int64), scores.astype(np.float64)
    if np.isnan(scores).any():
        at = np.flatnonzero(np.isnan(scores))[:10].tolist()
        raise ValueError(f"the scores at {at} are NaN, which can't be ranked; drop these masks")
    _check_labels(set(labels.tolist()))
    return labels, scores


def _check_labels(labels: set[int]):
    unknown = sorted(labels - set(KNOWN_LABELS))
    if unknown:
        raise ValueError(
            f"labels {unknown[:10]} aren't Cityscapes label ids, which go from {KNOWN_LABELS[0]} "
            f"to {KNOWN_LABELS[-1]}"
        )
    mistaken = None
    if labels and labels <= set(TRAIN_IDS_OF_THINGS):
        mistaken = "train ids"
    elif labels <= set(range(len(CLASSES))) and labels - {7}:  # 7 alone may be the road
        mistaken = "class indices of a model"
    if mistaken:
        raise ValueError(
            f"labels {sorted(labels)} seem to be {mistaken}: as label ids, none is evaluated; pass "
            + ", ".join(f"{label.id} for {label.name}" for label in CLASSES)
        )


def check_counts(table: ArrayLike, areas: ArrayLike, num_regions: int) -> PixelCounts:
    """Returns a table that was counted elsewhere, without its surplus columns.

    Raises:
        ValueError: it can't belong to so many regions and these areas.
    """
    table, areas = np.asarray(table), np.asarray(areas)
    if table.ndim != 2 or areas.shape != (len(table),) or table.shape[1] < num_regions:
        raise ValueError(
            f"the table is {list(table.shape)} and the areas {list(areas.shape)}; they must be "
            f"[P, {num_regions} or more] and [P]"
        )
    if table.dtype.kind not in "iu" or areas.dtype.kind not in "iu":
        raise ValueError(f"pixels are counted in integers, not {table.dtype} and {areas.dtype}")
    table = table[:, :num_regions].astype(np.int32)
    if (table < 0).any() or (table.sum(axis=1, dtype=np.int64) != areas).any():
        raise ValueError(
            "the pixels shared with regions don't add up to the areas; either the regions are "
            "those of another image, or masks go beyond the image"
        )
    return PixelCounts(table, areas.astype(np.int64))


def save_tables(tables: Iterable[ImageTable], path: str | os.PathLike, file_format: str = FORMAT):
    """Writes tables to one .npz file, which is complete or not there at all."""
    images = list(tables)
    save_arrays(
        path,
        file_format,
        image=np.array([table.image for table in images], np.str_),
        has_distances=np.array([table.has_distances for table in images], bool),
        num_regions=np.array([len(table.ids) for table in images], np.int64),
        num_predictions=np.array([len(table.labels) for table in images], np.int64),
        **{
            name: np.concatenate([getattr(table, name).ravel() for table in [*images, EMPTY]])
            for name in ARRAYS
        },
    )


def load_tables(path: str | os.PathLike, file_format: str = FORMAT) -> list[ImageTable]:
    """Reads what `save_tables` wrote.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, or of another kind or version.
    """
    with saved_arrays(path, file_format) as arrays:
        return _split(arrays)


def _split(arrays: Mapping[str, np.ndarray]) -> list[ImageTable]:
    """Returns the tables whose arrays were written one after another."""
    tables = []
    start = dict.fromkeys(ARRAYS, 0)
    columns = ("image", "has_distances", "num_regions", "num_predictions")
    for image, has_distances, r, p in zip(
        *(arrays[name].tolist() for name in columns), strict=True
    ):
        shapes = (r,), (r,), (r, 2), (p,), (p,), (p,), (p, r)
        parts = {}
        for name, shape in zip(ARRAYS, shapes, strict=True):
            part = arrays[name][start[name] :][: math.prod(shape)]
            start[name] += part.size
            parts[name] = part.reshape(shape)
        tables.append(ImageTable(image=image, has_distances=has_distances, **parts))
    if any(start[name] != len(arrays[name]) for name in ARRAYS):
        raise ValueError("arrays are longer than the images need")
    return tables
