"""Results in COCO's format as most programs write them, read and checked by columns.

These have whole ids, a number as score, and compressed run lengths. The optional package msgspec
reads a file of them in a fraction of the time and memory, and takes nothing that Python's reader
doesn't. Whatever is otherwise, and perhaps wrong, is left to the reader of single entries.
"""

import contextlib
import math
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int64

from m2f_jax.datasets.coco_format.lists import MAX_CATEGORY, MAX_PIXELS
from m2f_jax.masks.rle import check_counts
from m2f_jax.sizes import Size

msgspec: Any = None
with contextlib.suppress(ImportError):  # where the extra "fast" isn't installed
    import msgspec

KEYS = ("image_id", "category_id", "segmentation", "score")
OTHERS = ("id", "bbox", "area", "iscrowd")  # keys that entries may have and nothing depends on
LARGEST = 1e300  # scores beyond are refused


class Results(NamedTuple):
    """Entries of a results file."""

    numbers: Int64[np.ndarray, "N"]
    """Their places in the file."""
    category_ids: Int64[np.ndarray, "N"]
    scores: Float[np.ndarray, "N"]
    """NaN where results have none."""
    counts: list[bytes]
    """Of the masks, compressed and checked."""


class Columns(NamedTuple):
    """The entries about the images to score, one after another."""

    names: list[str]
    """Of their images."""
    results: Results


class Fields(NamedTuple):
    """The values of all entries of a file, of which only types and masks are checked."""

    image_ids: list[int | str]
    category_ids: list[int]
    scores: list[float]
    sizes: dict[int | str, Size]
    """Of the masks, by the id of their image."""
    counts: list[bytes]
    """Of the masks, compressed; checked against these sizes."""


def read_fields(file: Path) -> Fields | None:
    """Reads a file of results with msgspec.

    Returns:
        None if entries may be otherwise than `Fields` has them, or msgspec isn't installed.
    """
    if msgspec is None:
        return None
    data = file.read_bytes()
    mask = msgspec.defstruct("Mask", [("size", tuple[int, int]), ("counts", str)], gc=False)
    types = (int | str, int, mask, float)
    needless = [(key, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for key in OTHERS]
    entry = msgspec.defstruct("Entry", [*zip(KEYS, types, strict=True), *needless], gc=False)
    try:
        entries = msgspec.json.decode(data, type=list[entry])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None

    def column(values: list[Any], key: str) -> list[Any]:
        return list(map(operator.attrgetter(key), values))

    ids, labels, masks, scores = (column(entries, key) for key in KEYS)
    # A key that is there twice, or one that isn't known, would have been passed over. But then the
    # file would have more quotation marks than those around the keys and texts that were found.
    texts = len(entries) * (len(KEYS) + 3) + sum(type(id_) is str for id_ in ids)
    surplus = data.count(b'"') - 2 * texts
    if surplus:
        others = (len(entries) - column(entries, key).count(msgspec.UNSET) for key in OTHERS)
        surplus -= 2 * sum(others)
    if surplus:
        return None
    sizes, counts = column(masks, "size"), column(masks, "counts")
    del data, entries, masks  # more memory than all that follows
    return with_masks(ids, labels, scores, sizes, counts)


def fields_of(entries: list[Any]) -> Fields | None:
    """Returns the values of entries that Python's reader has read.

    Returns:
        None if some are otherwise than `Fields` has them.
    """
    try:
        ids, labels, masks, scores = (list(map(operator.itemgetter(key), entries)) for key in KEYS)
        counts = list(map(operator.itemgetter("counts"), masks))
        sizes = list(map(tuple, map(operator.itemgetter("size"), masks)))
        plain = (
            {dict}.issuperset(map(type, entries))
            and {int, str}.issuperset(map(type, ids))
            and {int}.issuperset(map(type, labels))
            and {float, int}.issuperset(map(type, scores))
            and {dict}.issuperset(map(type, masks))
            and {str}.issuperset(map(type, counts))
        )
        return with_masks(ids, labels, list(map(float, scores)), sizes, counts) if plain else None
    except (KeyError, TypeError, OverflowError):
        return None


def with_masks(
    ids: list[int | str],
    labels: list[int],
    scores: list[float],
    sizes: list[tuple[Any, ...]],
    texts: list[str],
) -> Fields | None:
    """Checks the masks of all entries.

    Args:
        ids: of the images.
        labels: the category ids.
        scores: the scores.
        sizes: of the masks.
        texts: the counts of the masks.

    Returns:
        None if a mask may be wrong, or masks of an image differ in their size.
    """
    by_image = dict(zip(ids, sizes, strict=True))
    same = list(map(by_image.__getitem__, ids)) == sizes
    if not same or not all(map(is_size, by_image.values())) or not all(map(str.isascii, texts)):
        return None
    counts, faults = check_counts(list(map(str.encode, texts)), sizes)
    return None if faults else Fields(ids, labels, scores, by_image, counts)


def is_size(size: tuple[Any, ...]) -> bool:
    """Returns whether this can be the height and width of an image."""
    whole = len(size) == 2 and {int}.issuperset(map(type, size))
    return whole and min(size) > 0 and math.prod(size) <= MAX_PIXELS


def columns_of(
    fields: Fields, name_of: Callable[[Any], str | None], sizes: Mapping[str, Size]
) -> Columns | None:
    """Checks the values of all entries without a look at each by itself.

    Args:
        fields: the values.
        name_of: the name of the image of an id, None where the data set has no such image.
        sizes: height and width of the images to score, by name.

    Returns:
        None if something may be wrong.
    """
    ids, labels, scores, found, counts = fields
    try:
        known = {id_: name for id_ in found if (name := name_of(id_)) is not None}
    except ValueError:
        return None
    if len(known) < len(found) or max(map(abs, labels), default=0) > MAX_CATEGORY:
        return None
    wanted = {id_ for id_, name in known.items() if name in sizes}
    if any(found[id_] != sizes[known[id_]] for id_ in wanted):
        return None
    numbers = range(len(ids))
    if len(wanted) < len(known):
        numbers = [k for k, id_ in enumerate(ids) if id_ in wanted]

    def kept(column: list[Any]) -> list[Any]:
        return column if len(numbers) == len(column) else [column[k] for k in numbers]

    values = np.array(kept(scores), float)
    if not (np.abs(values) <= LARGEST).all():
        return None
    results = Results(np.array(numbers, int), np.array(kept(labels), int), values, kept(counts))
    return Columns(list(map(known.__getitem__, kept(ids))), results)
