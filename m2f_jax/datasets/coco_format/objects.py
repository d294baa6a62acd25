"""The annotations of a file in COCO's format: objects with outlines, or segments of PNGs."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar

from m2f_jax.datasets.coco_format.faults import EntryError, Faults, Invalid
from m2f_jax.datasets.coco_format.lists import CocoFileImage, ImageId, check_file_name
from m2f_jax.datasets.coco_format.outlines import (
    Outline,
    check_encoded,
    encloses_nothing,
    outline_of,
)
from m2f_jax.datasets.coco_format.values import is_flag, is_number, is_whole, shown
from m2f_jax.labels import Label

MAX_SEGMENT = 2**24 - 1  # red + 256 green + 65536 blue

Owner = TypeVar("Owner")

logger = logging.getLogger("m2f_jax")


class CocoObject(NamedTuple):
    """An object of an image, from a file of objects."""

    id: int | str | None
    image_id: ImageId
    category_id: int
    outline: Outline
    area: float | None
    iscrowd: bool


class CocoSegment(NamedTuple):
    """A segment of a PNG, from a panoptic file."""

    id: int
    category_id: int
    iscrowd: bool


class PanopticEntry(NamedTuple):
    """The PNG of an image and its segments, from a panoptic file."""

    file_name: str
    segments: tuple[CocoSegment, ...]


def check_objects(
    entries: Sequence[Any],
    images: Mapping[ImageId, CocoFileImage],
    categories: Mapping[int, Label],
    where: str,
    invalid: Invalid,
) -> tuple[CocoObject, ...]:
    """Returns the objects of a file of objects, without those that can't be used.

    Raises:
        ValueError: some can't be used, and `invalid` is "refuse".
    """
    objects: list[CocoObject | None] = []
    faulty: dict[int, EntryError] = {}
    for number, entry in enumerate(entries):
        try:
            objects.append(object_of(entry, images, categories))
        except EntryError as fault:
            faulty[number] = fault
            objects.append(None)
    outlines, broken = check_encoded(
        [found and found.outline for found in objects],
        [(0, 0) if found is None else images[found.image_id].size for found in objects],
    )
    objects = [
        found if found is None or outline is None else found._replace(outline=outline)
        for found, outline in zip(objects, outlines, strict=True)
    ]
    faulty |= broken
    refuse_or_skip(faulty, entries, where, invalid)
    kept = tuple(x for n, x in enumerate(objects) if x is not None and n not in faulty)
    if flat := [x for x in kept if encloses_nothing(x.outline)]:
        logger.warning(
            "%s: outlines that enclose no area: %d, the first one is that of annotation %s",
            *(where, len(flat), flat[0].id),
        )
    return kept


def refuse_or_skip(
    faulty: Mapping[int, EntryError], entries: Sequence[Any], where: str, invalid: Invalid
):
    """Refuses a file for annotations that can't be used, or logs that they are left out.

    Args:
        faulty: the faults, by the annotation's index in the list.
        entries: all annotations.
        where: the file.
        invalid: "refuse" or "skip".

    Raises:
        ValueError: there are faults, and `invalid` is "refuse".
    """
    faults = Faults(where, "correct the file, or leave such objects out with --invalid skip")
    for number in sorted(faulty):
        faults.add(named(entries[number], number), faulty[number])
    faults.skip() if invalid == "skip" else faults.refuse()


def named(entry: Mapping[str, Any], number: int) -> str:
    """Returns the name of an annotation in messages."""
    return f"annotation {entry['id']}" if "id" in entry else f"annotations[{number}]"


def object_of(
    entry: Mapping[str, Any],
    images: Mapping[ImageId, CocoFileImage],
    categories: Mapping[int, Label],
) -> CocoObject:
    """Returns an annotation of a file of objects, checked but for compressed run lengths.

    Raises:
        EntryError: it can't be used.
    """
    image, category_id = known_owner(entry, images), known_category(entry, categories)
    iscrowd, area = crowd_flag(entry), entry.get("area")
    if "area" in entry:
        check_area(area, "area")
    segmentation = entry.get("segmentation")
    if segmentation in (None, [], {}, "") and "bbox" in entry:
        raise EntryError(
            "box without outline",
            "it has a box, but its segmentation is empty or missing; masks need an outline (a list "
            "of polygons, or a run-length encoding), which tools such as Segment Anything draw "
            "from a box",
        )
    if "segmentation" not in entry:
        raise EntryError("no outline", "it has no segmentation")
    outline = outline_of(segmentation, image.size)
    area = None if area is None else float(area)
    return CocoObject(entry.get("id"), image.id, category_id, outline, area, iscrowd)


def crowd_flag(entry: Mapping[str, Any]) -> bool:
    """Returns whether an annotation is of a group (`iscrowd`).

    Raises:
        EntryError: its iscrowd isn't 0 or 1.
    """
    iscrowd = entry.get("iscrowd", 0)
    if not is_flag(iscrowd):
        raise EntryError("iscrowd", f"iscrowd is {shown(iscrowd)}; it must be the number 0 or 1")
    return bool(iscrowd)


def check_area(area: Any, name: str):
    """Refuses what isn't a number of pixels.

    Raises:
        EntryError: the message names the field.
    """
    if not (is_number(area) and 0 <= area <= 1e18):
        raise EntryError(name, f"{name} is {shown(area)}; it must be a number of pixels")


def known_owner(
    entry: Mapping[str, Any],
    owners: Mapping[ImageId, Owner],
    kind: Literal["image", "video"] = "image",
) -> Owner:
    """Returns the image or video of an annotation.

    Raises:
        EntryError: it isn't among them.
    """
    key = f"{kind}_id"
    id_ = entry.get(key)
    owner = owners.get(id_) if is_whole(id_) or isinstance(id_, str) else None
    if owner is None:
        if key not in entry:
            raise EntryError(f"unknown {kind}", f"it has no {key}")
        raise EntryError(
            f"unknown {kind}", f"{key} is {shown(id_)}, which isn't the id of one of the {kind}s"
        )
    return owner


def known_category(entry: Mapping[str, Any], categories: Mapping[int, Label]) -> int:
    """Returns the category's id in an annotation or a segment.

    Raises:
        EntryError: it isn't among the categories.
    """
    category_id = entry.get("category_id")
    if not is_whole(category_id) or category_id not in categories:
        if "category_id" not in entry:
            raise EntryError("unknown category", "it has no category_id")
        raise EntryError(
            "unknown category",
            f"category_id is {shown(category_id)}, which isn't the id of one of the categories",
        )
    return int(category_id)


def check_panoptic(
    entries: Sequence[Mapping[str, Any]],
    images: Mapping[ImageId, CocoFileImage],
    categories: Mapping[int, Label],
    where: str,
) -> dict[ImageId, PanopticEntry]:
    """Returns the annotations of a panoptic file, by image.

    Faulty segments are never left out, since their PNGs would then have pixels of unknown segments.

    Raises:
        ValueError: annotations can't be used, or an image has none.
    """
    found: dict[ImageId, PanopticEntry] = {}
    faults = Faults(where, "write the file and its PNGs anew from the same data")
    for number, entry in enumerate(entries):
        try:
            image = known_owner(entry, images)
            if image.id in found:
                raise EntryError("second annotation", f"image {image.id!r} has another one")
            found[image.id] = panoptic_entry_of(entry, categories)
        except EntryError as fault:
            faults.add(f"annotations[{number}]", fault)
    faults.refuse()
    if without := [id_ for id_ in images if id_ not in found]:
        raise ValueError(f"{where}: image {without[0]} has no panoptic annotation")
    return found


def panoptic_entry_of(entry: Mapping[str, Any], categories: Mapping[int, Label]) -> PanopticEntry:
    """Returns an annotation of a panoptic file.

    Raises:
        EntryError: it can't be used.
    """
    try:
        check_file_name(entry.get("file_name"), "the PNG")
    except ValueError as error:
        raise EntryError("file_name", str(error)) from None
    infos = entry["segments_info"]
    if not isinstance(infos, list | tuple):
        raise EntryError("segments_info", f"segments_info is {shown(infos)}, not a list")
    segments: dict[int, CocoSegment] = {}
    for k, info in enumerate(infos):
        place = f"segments_info[{k}]"
        if not isinstance(info, Mapping):
            raise EntryError("segments_info", f"{place} is {shown(info)}, not an object")
        id_, iscrowd = info.get("id"), info.get("iscrowd", 0)
        if not is_whole(id_) or not 1 <= id_ <= MAX_SEGMENT:
            raise EntryError(
                "segment's id",
                f"{place}: id is {shown(id_)}; it must be a whole number, 1 to {MAX_SEGMENT}",
            )
        if id_ in segments:
            raise EntryError("segment's id", f"{place}: the id {id_} is there twice")
        if not is_flag(iscrowd):
            raise EntryError("iscrowd", f"{place}: iscrowd is {shown(iscrowd)}; it must be 0 or 1")
        try:
            category_id = known_category(info, categories)
        except EntryError as fault:
            raise EntryError(fault.kind, f"{place}: {fault}") from None
        segments[id_] = CocoSegment(int(id_), category_id, bool(iscrowd))
    return PanopticEntry(entry["file_name"], tuple(segments.values()))
