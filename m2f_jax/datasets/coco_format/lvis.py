"""The further lists of LVIS's annotation files: which categories were looked for in each image.

Not all of LVIS's categories were looked for in all images. An image lists the categories that it
certainly lacks, and those of which it may have more objects than are annotated.
"""

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

from m2f_jax.datasets.coco_format.lists import ImageId
from m2f_jax.datasets.coco_format.values import is_whole, shown

Frequency = Literal["r", "c", "f"]
"""How frequent a category is: in at most 10 training images (rare), 100 (common), or more."""

FREQUENCIES: tuple[Frequency, ...] = get_args(Frequency)
ABSENT, INCOMPLETE = "neg_category_ids", "not_exhaustive_category_ids"


@dataclass(frozen=True, kw_only=True)
class LvisLists:
    """The lists of a file's images and categories.

    Attributes:
        absent: by image, the ids of the categories of which it has no object.
        incomplete: by image, those of which it may have more objects than are annotated.
        frequencies: by the id of the category.
    """

    absent: Mapping[ImageId, frozenset[int]]
    incomplete: Mapping[ImageId, frozenset[int]]
    frequencies: Mapping[int, Frequency]


def check_lvis(
    images: Sequence[Mapping[str, Any]], categories: Sequence[Mapping[str, Any]], where: str
) -> LvisLists | None:
    """Returns the further lists of a file of LVIS; None if no image has such a list.

    Args:
        images: its list of images, checked as of COCO's format.
        categories: its list of categories, checked as of COCO's format.
        where: the file, for messages.

    Raises:
        ValueError: an image lacks a list, a list has something else than categories' ids, or a
            category has no frequency.
    """
    if not any(ABSENT in entry or INCOMPLETE in entry for entry in images):
        return None
    frequencies: dict[int, Frequency] = {}
    for number, entry in enumerate(categories):
        if entry.get("frequency") not in FREQUENCIES:
            raise ValueError(
                f"{where}: categories[{number}] (id {entry['id']}): frequency is "
                f"{shown(entry.get('frequency'))}; LVIS's images need categories of the frequency "
                "r, c or f"
            )
        frequencies[entry["id"]] = entry["frequency"]
    absent, incomplete = (
        {
            entry["id"]: ids_of(entry, name, frequencies, f"{where}: images[{number}]")
            for number, entry in enumerate(images)
        }
        for name in (ABSENT, INCOMPLETE)
    )
    return LvisLists(absent=absent, incomplete=incomplete, frequencies=frequencies)


def ids_of(
    entry: Mapping[str, Any], name: str, known: Container[int], where: str
) -> frozenset[int]:
    """Returns the ids of categories in one of an image's lists.

    Raises:
        ValueError: the list is missing, or has something else.
    """
    place = f"{where} (id {entry['id']!r})"
    if name not in entry:
        raise ValueError(f"{place} has no {name}, and other images have LVIS's lists; give it both")
    if not isinstance(entry[name], list | tuple):
        raise ValueError(f"{place}: {name} is {shown(entry[name])}, not a list of categories' ids")
    for id_ in entry[name]:
        if not is_whole(id_) or id_ not in known:
            raise ValueError(
                f"{place}: {name} has {shown(id_)}, which isn't the id of one of the categories"
            )
    return frozenset(map(int, entry[name]))
