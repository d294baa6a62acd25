"""COCO's run-length encodings of masks: written, checked and read.

An encoding is `{"size": [height, width], "counts": ...}`. The counts are the lengths of runs down
the columns, beginning with pixels outside of the mask: a list of numbers, or text that packs them.
What other programs wrote is checked here before pycocotools sees it: where counts are cut short,
pycocotools never ends, or reads memory beyond them.

Axes: P encodings, runs of all encodings one after another.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Bool, Float, Int64

from m2f_jax.masks import mask_box
from m2f_jax.structures import Size

Encoding = dict[str, Any]
"""A mask's size and counts."""

BATCH = 1024  # encodings that are unpacked at a time


class RunLengths(NamedTuple):
    """The run lengths of several encodings."""

    lengths: Int64[np.ndarray, "runs"]
    numbers: Int64[np.ndarray, "P"]
    """How many runs each encoding has."""


def encode_rle(mask: Bool[np.ndarray, "height width"]) -> dict[str, Any]:
    """Returns a mask as COCO's compressed run lengths, the same as pycocotools' but faster.

    COCO's runs go down the columns. Where they start is found by comparing whole rows within the
    mask's box, which is much faster than laying the image out in columns.
    """
    height, width = mask.shape
    left, top, right, bottom = mask_box(mask)
    changes = np.zeros((bottom - top + 1, right - left), bool)
    changes[:-1] = mask[top:bottom, left:right]
    changes[1:] ^= mask[top:bottom, left:right]
    rows, columns = np.divmod(np.flatnonzero(changes), max(right - left, 1))
    starts = np.sort((columns + left) * height + rows + top)
    starts = starts[starts < height * width]
    # What goes on from the foot of a column to the head of the next is one run.
    distinct = np.diff(starts, prepend=-1, append=-1) != 0
    starts = starts[distinct[1:] & distinct[:-1]]
    counts = compress(np.diff(starts, prepend=0, append=height * width).tolist(), mask.shape)
    return {"size": [height, width], "counts": counts.decode()}


def compress(lengths: Sequence[int], size: Size) -> bytes:
    """Returns run lengths, which add up to the pixels of `size`, as compressed counts."""
    encoding: Any = {"size": list(size), "counts": list(lengths)}
    encoded: Any = coco_mask.frPyObjects(encoding, *size)
    return encoded["counts"]


def decode_rle(counts: bytes, size: Size) -> Bool[np.ndarray, "height width"]:
    """Returns the mask of checked compressed counts."""
    lengths = run_lengths([counts]).lengths
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size[::-1]).T


def sound_counts(rles: Sequence[Any], size: Size) -> list[bytes]:
    """Returns the compressed counts of encodings for an image, once all are known to be sound.

    Args:
        rles: what should be encodings, compressed or not.
        size: height and width of the image.

    Raises:
        ValueError: one isn't an encoding, is broken, or is of another size.
    """
    encoded = [counts_of(rle, size) for rle in rles]
    counts, faults = check_counts(encoded, [size] * len(encoded))
    for fault in faults.values():
        raise ValueError(fault)
    return counts


def counts_of(rle: Any, size: Size) -> bytes:
    """Returns the compressed counts of an encoding, which `check_counts` has yet to check.

    Raises:
        ValueError: it has no size or counts, its size isn't the image's, or counts that aren't
            compressed don't fit the size.
    """
    if not isinstance(rle, Mapping) or "size" not in rle or "counts" not in rle:
        raise ValueError(
            "a mask must be a run-length encoding, {'size': [height, width], 'counts': ...}"
        )
    if rle["size"] != [*size] and rle["size"] != (*size,):
        raise ValueError(f"a mask's size is {rle['size']!r:.40}, the image's {list(size)}")
    counts = rle["counts"]
    if isinstance(counts, bytes):
        return counts
    if isinstance(counts, str):
        if counts[:2] in ("b'", 'b"'):
            raise ValueError(
                "the counts begin with b': they are Python's str() of bytes; write "
                "counts.decode() instead"
            )
        return counts.encode("utf-8", "surrogatepass")
    if isinstance(counts, np.ndarray):
        counts = counts.tolist()
    if not isinstance(counts, list | tuple) or not set(map(type, counts)) <= {int}:
        raise ValueError("the counts of a mask are neither text nor a list of whole numbers")
    pixels = size[0] * size[1]
    if min(counts, default=0) < 0 or sum(counts) != pixels:
        raise ValueError(wrong_sum(sum(counts), size))
    return compress(counts, size)


def wrong_sum(pixels: int, size: Size) -> str:
    """Says that run lengths don't add up to the number of pixels."""
    return (
        f"the run lengths add up to {pixels} pixels, the image has {size[0]} x {size[1]}; the mask "
        "is cut short or of another size"
    )


def check_counts(
    encoded: Sequence[bytes], sizes: Sequence[Size]
) -> tuple[list[bytes], dict[int, str]]:
    """Checks compressed counts.

    Args:
        encoded: the counts.
        sizes: height and width of each one's image.

    Returns:
        The counts, in which no run but the first is empty (two masks with an empty run at the same
        place would end pycocotools' comparison early), and what is wrong, by the index of the
        encoding.
    """
    counts, faults = list(encoded), {}
    for start in range(0, len(encoded), BATCH):
        batch = counts[start : start + BATCH]
        broken = malformed(batch)
        for index, fault in broken.items():
            faults[start + index], batch[index] = fault, b"0"
        lengths, numbers = run_lengths(batch)
        first = np.cumsum(numbers) - numbers
        sums = np.add.reduceat(lengths, first).tolist()
        owner = np.repeat(np.arange(len(batch)), numbers)
        negative = set(owner[lengths < 0].tolist())
        for index, total in enumerate(sums):
            size = sizes[start + index]
            if index not in broken and (total != size[0] * size[1] or index in negative):
                faults[start + index] = wrong_sum(total, size)
        later = np.arange(len(lengths)) > np.repeat(first, numbers)
        for index in np.unique(owner[later & (lengths == 0)]).tolist():
            if start + index not in faults:
                runs = lengths[first[index] : first[index] + numbers[index]]
                counts[start + index] = compress(joined(runs), sizes[start + index])
    return counts, faults


def malformed(encoded: Sequence[bytes]) -> dict[int, str]:
    """Returns what is wrong with compressed counts as text, by their index."""
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    text = np.frombuffer(b"".join(encoded), np.uint8) - np.uint8(48)
    faults = {index: "the counts are empty" for index, one in enumerate(encoded) if not one}

    def add(places: Int64[np.ndarray, "_"], fault: str):
        for index in np.searchsorted(ends, places, side="right").tolist():
            faults.setdefault(index, fault)

    add(np.flatnonzero(text > 63), "the counts have characters that aren't COCO's")
    last = ends[ends > 0] - 1
    add(last[text[last] & 32 != 0], "the counts are broken off in the middle of a number")
    is_final = text & 32 == 0
    is_final[last] = True  # a broken number doesn't go on in the next encoding
    final = np.flatnonzero(is_final)
    add(final[np.diff(final, prepend=-1) > 7], "the counts hold a number beyond 32 bits")
    return faults


def run_lengths(encoded: Sequence[bytes]) -> RunLengths:
    """Returns the run lengths of compressed counts that are well formed.

    A number is written as groups of five bits, lowest first, with 32 added to all but the last; the
    last group's highest bit is the sign. From the fourth on, numbers are differences to the last
    but one (rleFrString in pycocotools).
    """
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    text = np.frombuffer(b"".join(encoded), np.uint8) - np.uint8(48)
    last = np.flatnonzero((text & 32) == 0)
    first = np.append(-1, last[:-1])[: len(last)] + 1
    digit = np.arange(len(text)) - np.repeat(first, last - first + 1)
    lengths = (text & 31).astype(np.int64) << (5 * digit)
    lengths = np.add.reduceat(lengths, first) if len(first) else lengths
    lengths -= ((text[last] & 16) != 0) * (np.int64(1) << (5 * (digit[last] + 1)))

    before = np.searchsorted(last, np.append(0, ends))
    numbers = np.diff(before)
    position = np.arange(len(lengths)) - np.repeat(before[:-1], numbers)
    for start in (1, 2):  # two chains of differences in every encoding
        chain = np.flatnonzero((position % 2 == start % 2) & (position > 0))
        sums = np.cumsum(lengths[chain])
        links = np.maximum((numbers - start + 1) // 2, 0)
        earlier = np.append(0, sums)[np.cumsum(links) - links]
        lengths[chain] = sums - np.repeat(earlier, links)
    return RunLengths(lengths, numbers)


def joined(lengths: Int64[np.ndarray, "runs"]) -> list[int]:
    """Returns run lengths without later empty runs: what such a run parts becomes one run."""
    places = np.flatnonzero(lengths)
    inside = places % 2
    starts = np.flatnonzero(np.diff(inside, prepend=-1))
    sums = np.add.reduceat(lengths[places], starts).tolist()
    return sums if inside[0] == 0 else [0, *sums]


def track_overlaps(
    tracks: Sequence[Sequence[Encoding | None]], others: Sequence[Sequence[Encoding | None]]
) -> Float[np.ndarray, "tracks others"]:
    """Returns the overlaps of tracks: their intersection over union, each summed over all frames.

    Args:
        tracks: each with a sound encoding for every frame, None where it has no mask.
        others: likewise.

    Returns:
        For each of `tracks`, its overlap with each of `others`, as YouTubeVIS defines it; 0 where
        neither has a mask.
    """
    common = np.zeros((len(tracks), len(others)))
    areas = np.zeros(len(tracks)), np.zeros(len(others))
    for frame in range(max(map(len, [*tracks, *others]), default=0)):
        seen = [[i for i, x in enumerate(group) if x[frame]] for group in (tracks, others)]
        masks: list[Any] = [
            [group[i][frame] for i in places]
            for group, places in zip((tracks, others), seen, strict=True)
        ]
        own: list[Any] = [coco_mask.area(x) if x else np.zeros(0) for x in masks]
        for total, places, area in zip(areas, seen, own, strict=True):
            total[places] += area
        if masks[0] and masks[1]:
            # By its rule for groups, pycocotools divides intersections by the first masks' areas.
            shares = np.array(coco_mask.iou(masks[0], masks[1], [1] * len(masks[1])))
            common[np.ix_(*seen)] += np.round(shares * own[0][:, None])
    union = areas[0][:, None] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
