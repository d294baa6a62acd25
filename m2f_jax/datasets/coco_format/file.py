"""The reader of files in COCO's format, which checks once all that is used and returns it typed.

There are two kinds: files of objects, each with an outline, and panoptic files, which name a PNG of
segments for each image.
"""

import dataclasses
import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.coco_format.lists import (
    CocoFileImage,
    ImageId,
    check_categories,
    check_images,
    check_unique,
    list_of,
)
from m2f_jax.datasets.coco_format.lvis import LvisLists, check_lvis
from m2f_jax.datasets.coco_format.objects import (
    CocoObject,
    PanopticEntry,
    check_objects,
    check_panoptic,
)
from m2f_jax.files import read_json
from m2f_jax.labels import Label

logger = logging.getLogger("m2f_jax")


@dataclass(frozen=True, kw_only=True)
class CocoFile:
    """The content of a file in COCO's format.

    Attributes:
        where: the file, for messages.
        images: in the order of the file.
        categories: in the order of the file.
        objects: in the order of the file; none in a panoptic file.
        panoptic: the PNG of each image by its id; None in a file of objects.
        lvis: the further lists of LVIS's files; None in other files.
    """

    where: str
    images: tuple[CocoFileImage, ...] = field(repr=False)
    categories: tuple[Label, ...]
    objects: tuple[CocoObject, ...] = field(repr=False)
    panoptic: Mapping[ImageId, PanopticEntry] | None = field(repr=False)
    lvis: LvisLists | None = field(repr=False)

    @property
    def used(self) -> set[int]:
        """The ids of categories that have objects or segments."""
        if self.panoptic is None:
            return {found.category_id for found in self.objects}
        return {x.category_id for entry in self.panoptic.values() for x in entry.segments}


def read_coco_file(path: str | os.PathLike, invalid: Invalid = "refuse") -> CocoFile:
    """Reads and checks a file in COCO's format.

    Args:
        path: the file.
        invalid: "refuse" to refuse a file with objects that can't be used, and list these; "skip"
            to leave them out, and count them in the log.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't in COCO's format, ids are there twice or of several kinds, or (unless
            they are left out) objects can't be used; what and where is named.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing; expected a COCO annotation file")
    return check_coco(read_json(path), os.fspath(path), invalid)


def check_coco(content: Any, where: str, invalid: Invalid = "refuse") -> CocoFile:
    """Returns the checked content of a file in COCO's format; see `read_coco_file`."""
    images, categories, annotations = (
        list_of(content, name, where) for name in ("images", "categories", "annotations")
    )
    known = {image.id: image for image in check_images(images, f"{where}: images")}
    labels = {label.id: label for label in check_categories(categories, f"{where}: categories")}
    check_unique(annotations, f"{where}: annotations", required=False)
    kinds = {isinstance(x, Mapping) and "segments_info" in x for x in annotations}
    if len(kinds) > 1:
        raise ValueError(
            f"{where}: some annotations have segments_info and others don't; a panoptic file and a "
            "file of objects can't be one"
        )
    objects, panoptic = (), None
    if kinds == {True}:
        panoptic = check_panoptic(annotations, known, labels, where)
    else:
        objects = check_objects(annotations, known, labels, where, invalid)
    file = CocoFile(
        where=where,
        images=tuple(known.values()),
        categories=tuple(labels.values()),
        objects=objects,
        panoptic=panoptic,
        lvis=check_lvis(images, categories, where),
    )
    return dataclasses.replace(file, categories=distinct(file.categories, file.used, where))


def distinct(categories: Sequence[Label], used: set[int], where: str) -> tuple[Label, ...]:
    """Returns the categories, without unused ones that share a name with another.

    Args:
        categories: of a file.
        used: the ids of those that have objects.
        where: the file.

    Raises:
        ValueError: two categories that are used share a name.
    """
    counts = Counter(label.name for label in categories)
    dropped = []
    for name in (name for name, count in counts.items() if count > 1):
        ids = [label.id for label in categories if label.name == name]
        kept = [id_ for id_ in ids if id_ in used] or ids[:1]
        if len(kept) > 1:
            raise ValueError(
                f"{where}: the categories {kept[0]} and {kept[1]} are both called "
                f"{name!r:.60} and have objects; rename one, or give its objects to the other"
            )
        dropped += [id_ for id_ in ids if id_ not in kept]
        logger.warning(
            "%s: the categories %s are all called %.60r; %s is used, the others have no objects "
            "and are passed over",
            *(where, ", ".join(map(str, ids)), name, kept[0]),
        )
    return tuple(label for label in categories if label.id not in dropped)
