"""How many pixels the predictions of an image share with the regions of its ground truth.

A region is all pixels of one instance id: an object, a group, or plain stuff. Regions cover the
image without overlap, so the table of shared pixels (one row per prediction, one column per region)
says everything that instance metrics need, and its rows sum to the areas of the predictions. There
are three routes to the same integers: from bool masks and from run-length encodings on the host,
where both become runs of pixels, and from packed or bool masks on the device (`count_on_device`).

Axes: P predictions, R regions, N runs, H W the image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, Shaped, UInt8

from m2f_jax.masks.rle import run_lengths, sound_counts

KNOWN_LABELS = range(-1, 34)  # Cityscapes label ids; -1 is the license plate
FIRST_INSTANCE = 1000  # object k of class c has the id 1000 c + k; smaller ids are plain labels
COLUMN_MULTIPLE = 64  # so that tables of different images seldom need a new compilation


class Runs(NamedTuple):
    """Runs of pixels in an image laid out flat: from `starts` up to, not including, `ends`."""

    starts: Int64[np.ndarray, "N"]
    ends: Int64[np.ndarray, "N"]
    owners: Int64[np.ndarray, "N"]  # index of the prediction or region that the run belongs to


class PixelCounts(NamedTuple):
    """The shared pixels of one image, and all pixels of each prediction."""

    table: Int32[np.ndarray, "P R"]
    areas: Int64[np.ndarray, "P"]


@dataclass(frozen=True, eq=False, kw_only=True)
class Regions:
    """The regions of one image's ground truth, by ascending id.

    Build it once per image with `Regions.of` and keep it, if an image is evaluated several times.

    Attributes:
        shape: height and width of the image.
        ids: the instance id of each region.
        areas: its pixels.
        rows: the image as runs along its rows.
    """

    shape: tuple[int, int]
    ids: Int32[np.ndarray, "R"]
    areas: Int64[np.ndarray, "R"]
    rows: Runs

    @classmethod
    def of(cls, instance_ids: np.ndarray) -> "Regions":
        """Finds the regions of an image as in `*_gtFine_instanceIds.png`, of any integer type.

        Raises:
            ValueError: the array isn't such an image.
        """
        if instance_ids.ndim != 2 or not instance_ids.size:
            raise ValueError(f"instance ids must be [H, W], not {list(instance_ids.shape)}")
        if instance_ids.dtype.kind not in "iu":
            raise ValueError(
                f"instance ids must be integers, not {instance_ids.dtype}; "
                "np.asarray(Image.open(path)) reads them as they are"
            )
        starts, values = _constant_runs(instance_ids.ravel())
        _check_known(values)
        present = np.zeros(FIRST_INSTANCE * KNOWN_LABELS.stop + 1, bool)
        present[values + 1] = True  # ids start at -1
        owners = (np.cumsum(present) - 1)[values + 1]
        rows = Runs(starts, np.append(starts[1:], instance_ids.size), owners)
        return cls(
            shape=(instance_ids.shape[0], instance_ids.shape[1]),
            ids=(np.flatnonzero(present) - 1).astype(np.int32),
            areas=_areas(rows, int(np.count_nonzero(present))),
            rows=rows,
        )

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def columns(self) -> Runs:
        """The image as runs along its columns, as COCO lays images out. Computed once."""
        flat = np.ascontiguousarray(self.index_map(self.shape).T).ravel()
        starts, owners = _constant_runs(flat)
        return Runs(starts, np.append(starts[1:], flat.size), owners)

    @property
    def num_columns(self) -> int:
        """A number of table columns that fits these regions, for `count_on_device`."""
        return len(self) + -len(self) % COLUMN_MULTIPLE

    def index_map(
        self, canvas: tuple[int, int]
    ) -> UInt8[np.ndarray, "Hc Wc"] | Int32[np.ndarray, "Hc Wc"]:
        """Returns the index of every pixel's region; beyond the image, one that counts nowhere.

        Args:
            canvas: height and width of the map; the image lies in its upper left corner.
        """
        dtype = np.uint8 if len(self) <= np.iinfo(np.uint8).max else np.int32
        indices = np.full(canvas, len(self), dtype)
        height, width = self.shape
        flat = np.repeat(self.rows.owners.astype(dtype), self.rows.ends - self.rows.starts)
        indices[:height, :width] = flat.reshape(self.shape)
        return indices


def count_masks(masks: np.ndarray, regions: Regions) -> PixelCounts:
    """Counts the pixels that bool masks [P, H, W] share with the regions.

    Raises:
        ValueError: the masks have another type or size.
    """
    if masks.dtype != bool:
        raise ValueError(f"masks must be bool, not {masks.dtype}; logits > 0 or masks != 0 are")
    if masks.ndim != 3 or masks.shape[1:] != regions.shape:
        raise ValueError(
            f"masks must be [P, {regions.shape[0]}, {regions.shape[1]}], as large as the instance "
            f"ids, not {list(masks.shape)}"
        )
    return _count(_mask_runs(np.ascontiguousarray(masks)), regions.rows, len(masks), regions)


def count_rles(rles: Sequence[Any], regions: Regions) -> PixelCounts:
    """Counts the pixels that COCO's run-length encodings, compressed or not, share with them.

    Raises:
        ValueError: an encoding is broken or of another size.
    """
    runs = _rle_runs(sound_counts(rles, regions.shape))
    return _count(runs, regions.columns, len(rles), regions)


def _count(runs: Runs, region_runs: Runs, num_predictions: int, regions: Regions) -> PixelCounts:
    table = _shared_pixels(runs, region_runs, num_predictions, len(regions))
    return PixelCounts(table, _areas(runs, num_predictions))


def _shared_pixels(
    runs: Runs, region_runs: Runs, num_predictions: int, num_regions: int
) -> Int32[np.ndarray, "P R"]:
    """Cuts every run of a prediction at the borders of regions, and adds up the pieces."""
    first = np.searchsorted(region_runs.starts, runs.starts, side="right") - 1
    beyond = np.searchsorted(region_runs.starts, runs.ends, side="left")
    pieces = beyond - first
    last_piece = np.cumsum(pieces)
    total = int(last_piece[-1]) if len(last_piece) else 0
    region_run = np.arange(total) + np.repeat(beyond - last_piece, pieces)
    starts = np.maximum(np.repeat(runs.starts, pieces), region_runs.starts[region_run])
    ends = np.minimum(np.repeat(runs.ends, pieces), region_runs.ends[region_run])
    cells = np.repeat(runs.owners * num_regions, pieces) + region_runs.owners[region_run]
    # The sums are integers below 2**53, so float64 holds them exactly.
    counts = np.bincount(cells, weights=ends - starts, minlength=num_predictions * num_regions)
    return counts.astype(np.int32).reshape(num_predictions, num_regions)


def _areas(runs: Runs, count: int) -> Int64[np.ndarray, "count"]:
    pixels = np.bincount(runs.owners, weights=runs.ends - runs.starts, minlength=count)
    return pixels.astype(np.int64)


def _constant_runs(
    flat: Shaped[np.ndarray, "pixels"],
) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
    """Returns where runs of one value start, and the values."""
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    return starts, flat[starts].astype(np.int64)


def _check_known(values: Int64[np.ndarray, "N"]):
    labels = np.where(values < FIRST_INSTANCE, values, values // FIRST_INSTANCE)
    unknown = values[(labels < KNOWN_LABELS.start) | (labels >= KNOWN_LABELS.stop)]
    if unknown.size:
        raise ValueError(
            f"instance ids hold {np.unique(unknown)[:10].tolist()}, which no Cityscapes label "
            "stands for; pass the values of *_gtFine_instanceIds.png: label ids from -1 to 33, and "
            "1000 x label id + number for objects"
        )


def _mask_runs(masks: Bool[np.ndarray, "P H W"]) -> Runs:
    """Returns the runs of masks along rows; a run ends at the end of its row."""
    width = masks.shape[2]
    runs = []
    for mask in masks:
        top, bottom = _rough_rows(mask)
        columns = np.flatnonzero(mask[top:bottom].any(axis=0))
        if not columns.size:
            runs.append(np.zeros((0, 2), np.int64))
            continue
        left, right = int(columns[0]), int(columns[-1]) + 1
        changes = np.zeros((bottom - top, right - left + 1), bool)
        changes[:, :-1] = mask[top:bottom, left:right]
        changes[:, 1:] ^= mask[top:bottom, left:right]
        rows, columns = np.divmod(np.flatnonzero(changes), right - left + 1)
        runs.append(((rows + top) * width + columns + left).reshape(-1, 2))
    pixels = np.concatenate([np.zeros((0, 2), np.int64), *runs])
    owners = np.repeat(np.arange(len(masks)), np.array([len(run) for run in runs], np.int64))
    return Runs(pixels[:, 0].copy(), pixels[:, 1].copy(), owners)


def _rough_rows(mask: Bool[np.ndarray, "H W"]) -> tuple[int, int]:
    """Returns the rows between which the mask lies, in steps of eight rows.

    Eight rows of bytes are read as 64-bit words, which is as fast as the memory allows.
    """
    height, width = mask.shape
    whole = height - height % 8
    words = mask[:whole].reshape(-1).view(np.uint64).reshape(-1, width)
    filled = np.flatnonzero(np.bitwise_or.reduce(words, axis=1)) * 8
    bottom = height if mask[whole:].any() else int(filled[-1]) + 8 if filled.size else 0
    return int(filled[0]) if filled.size else min(whole, bottom), bottom


def _rle_runs(encoded: Sequence[bytes]) -> Runs:
    """Returns the runs of sound compressed counts along columns, all decoded at once."""
    lengths, numbers = run_lengths(encoded)
    first = np.cumsum(numbers) - numbers
    ends = np.cumsum(lengths)
    before = np.append(0, ends)[first]  # where each encoding's pixels start in the sum of all
    ends -= np.repeat(before, numbers)
    owners = np.repeat(np.arange(len(encoded)), numbers)
    position = np.arange(len(lengths)) - np.repeat(first, numbers)
    filled = (position % 2 == 1) & (lengths > 0)
    return Runs((ends - lengths)[filled], ends[filled], owners[filled])
