"""COCO's run-length encodings of masks: written, checked and read.

An encoding is `{"size": [height, width], "counts": ...}`. The counts are the lengths of runs down
the columns, beginning with pixels outside of the mask: a list of numbers, or text that packs them.
What other programs wrote is checked here before pycocotools sees it: where counts are cut short,
pycocotools never ends, or reads memory beyond them.

Axes: P encodings, runs of all encodings one after another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Bool, Int64, UInt8

from m2f_jax.masks.boxes import mask_box
from m2f_jax.sizes import Size

Encoding = dict[str, Any]
"""A mask's size and counts."""


@dataclass(frozen=True)
class SoundMasks(Sequence[Encoding]):
    """Masks of one image whose compressed counts are known to be sound."""

    counts: list[bytes]
    size: Size

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return SoundMasks(self.counts[index], self.size)
        return {"size": list(self.size), "counts": self.counts[index]}


BATCH = 512  # encodings that are unpacked at a time, whose numbers fit into a processor's cache
EMPTY = "the counts are empty"


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
    return encode_rows(mask, 0, mask.shape[0])


def encode_rows(rows: Bool[np.ndarray, "rows width"], first: int, height: int) -> dict[str, Any]:
    """Returns the run lengths of a mask that lies within some rows, as `encode_rle`.

    Args:
        rows: that part of the mask.
        first: the index of its first row in the image.
        height: of the image.
    """
    width = rows.shape[1]
    left, top, right, bottom = mask_box(rows)
    changes = np.zeros((bottom - top + 1, right - left), bool)
    changes[:-1] = rows[top:bottom, left:right]
    changes[1:] ^= rows[top:bottom, left:right]
    lines, columns = np.divmod(np.flatnonzero(changes), max(right - left, 1))
    starts = np.sort((columns + left) * height + lines + top + first)
    starts = starts[starts < height * width]
    # What goes on from the foot of a column to the head of the next is one run.
    distinct = np.diff(starts, prepend=-1, append=-1) != 0
    starts = starts[distinct[1:] & distinct[:-1]]
    counts = compress(np.diff(starts, prepend=0, append=height * width).tolist(), (height, width))
    return {"size": [height, width], "counts": counts.decode()}


def compress(lengths: Sequence[int], size: Size) -> bytes:
    """Returns run lengths, which add up to the pixels of `size`, as compressed counts."""
    encoding: Any = {"size": list(size), "counts": list(lengths)}
    encoded: Any = coco_mask.frPyObjects(encoding, *size)
    return encoded["counts"]


def decode_rle(counts: bytes, size: Size) -> Bool[np.ndarray, "height width"]:
    """Returns the mask of compressed counts, which `check_counts` or `sound_counts` has checked."""
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
    if isinstance(rles, SoundMasks) and tuple(rles.size) == tuple(size):
        return rles.counts
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
    """Returns the message that run lengths don't add up to the number of pixels."""
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
        The counts, without empty runs but the first (an empty run at the same place in two masks
        would end pycocotools' comparison early); and what is wrong, by the index of the encoding.
    """
    counts, faults = list(encoded), {}
    pixels = np.array([height * width for height, width in sizes], np.int64)
    for start in range(0, len(encoded), BATCH):
        batch = counts[start : start + BATCH]
        groups = groups_of(batch)
        if broken := malformed(groups):
            for index, fault in broken.items():
                faults[start + index], batch[index] = fault, b"0"
            groups = groups_of(batch)
        lengths, numbers = unpacked(groups)
        first = np.cumsum(numbers) - numbers
        sums = np.add.reduceat(lengths, first)
        odd = np.flatnonzero(lengths <= 0)
        owner = np.searchsorted(first, odd, side="right") - 1
        wrong = sums != pixels[start : start + BATCH]
        wrong[owner[lengths[odd] < 0]] = True
        for index in np.flatnonzero(wrong).tolist():
            fault = wrong_sum(int(sums[index]), sizes[start + index])
            faults.setdefault(start + index, fault)
        for index in np.unique(owner[odd > first[owner]]).tolist():
            if start + index not in faults:
                runs = lengths[first[index] : first[index] + numbers[index]]
                counts[start + index] = compress(joined(runs), sizes[start + index])
    return counts, faults


class Groups(NamedTuple):
    """The groups of five bits that compressed counts are written in."""

    text: UInt8[np.ndarray, "groups"]
    """The characters less 48: five bits, and 32 where a number goes on; above 63 is invalid."""
    ends: Int64[np.ndarray, "P"]
    """Where each encoding ends."""
    last: Int64[np.ndarray, "runs"]
    """Where each number ends, at the latest with its encoding."""


def groups_of(encoded: Sequence[bytes]) -> Groups:
    """Returns the groups of compressed counts."""
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    text = np.frombuffer(b"".join(encoded), np.uint8) - np.uint8(48)
    is_last = (text & 32) == 0
    is_last[ends[ends > 0] - 1] = True
    return Groups(text, ends, np.flatnonzero(is_last))


def malformed(groups: Groups) -> dict[int, str]:
    """Returns what is wrong with compressed counts as text, by their index."""
    text, ends, last = groups
    faults = dict.fromkeys(np.flatnonzero(np.diff(ends, prepend=0) == 0).tolist(), EMPTY)

    def add(places: Int64[np.ndarray, "_"], fault: str):
        for index in np.searchsorted(ends, places, side="right").tolist():
            faults.setdefault(index, fault)

    if text.max(initial=0) > 63:
        add(np.flatnonzero(text > 63), "the counts have characters that aren't COCO's")
    final = ends[ends > 0] - 1
    add(final[text[final] & 32 != 0], "the counts are broken off in the middle of a number")
    on = text & 32
    for shift in (1, 2, 3):  # seven that go on, one after another
        on = on[shift:] & on[:-shift]
    if on.any():
        long = np.flatnonzero(np.diff(last, prepend=-1) > 7)
        add(last[long], "the counts hold a number beyond 32 bits")
    return faults


def run_lengths(encoded: Sequence[bytes]) -> RunLengths:
    """Returns the run lengths of compressed counts that are well formed."""
    return unpacked(groups_of(encoded))


def unpacked(groups: Groups) -> RunLengths:
    """Returns the run lengths of well-formed groups.

    A number is written as groups of five bits, lowest first, with 32 added to all but the last; the
    last group's highest bit is the sign. From the fourth on, numbers are differences to the last
    but one (rleFrString in pycocotools).
    """
    text, ends, last = groups
    lengths = ((text[last] & 31) ^ 16).astype(np.int64) - 16
    before = 1
    longer = np.flatnonzero(text[last - before] & 32 != 0)
    while len(longer):
        lengths[longer] = lengths[longer] << 5 | text[last[longer] - before] & 31
        before += 1
        longer = longer[text[last[longer] - before] & 32 != 0]

    after = np.searchsorted(last, ends)  # the first number of what follows each encoding
    first = np.append(0, after)[:-1]
    numbers = after - first
    first = first[numbers > 0]
    leading = lengths[first]  # which no other number is a difference to
    lengths[first] = 0
    for parity in (0, 1):  # every other number is one chain of differences, through all encodings
        chain = lengths[parity::2]
        sums = np.cumsum(chain)
        links = (after - parity + 1) // 2
        earlier = np.append(0, links)[:-1]
        np.subtract(sums, np.repeat(np.append(0, sums)[earlier], links - earlier), out=chain)
    lengths[first] = leading
    return RunLengths(lengths, numbers)


def joined(lengths: Int64[np.ndarray, "runs"]) -> list[int]:
    """Returns run lengths without empty runs but the first; the neighbours of one become one."""
    places = np.flatnonzero(lengths)
    inside = places % 2
    starts = np.flatnonzero(np.diff(inside, prepend=-1))
    sums = np.add.reduceat(lengths[places], starts).tolist()
    return sums if inside[0] == 0 else [0, *sums]
