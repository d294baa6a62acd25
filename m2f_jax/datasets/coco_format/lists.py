"""The lists of images and categories in a file of COCO's format, and ids that are unique."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from m2f_jax.datasets.coco_format.values import is_flag, is_name, is_whole, shown
from m2f_jax.labels import Label
from m2f_jax.sizes import Size

ImageId = int | str

MAX_SIDE = 10**6  # pixels
MAX_PIXELS = 2**30
MAX_CATEGORY = 2**31 - 1
LONGEST_NAME = 200  # bytes, of the 255 that most disks take
MAX_TEXT = 4096  # bytes of an id, which may be the path of a file

COCO_LISTS = ("images", "categories", "annotations")
VIDEO_LISTS = ("videos", "categories", "annotations")
FORMATS = {COCO_LISTS: "COCO's format", VIDEO_LISTS: "YouTubeVIS's format"}


def name_of_id(id_: ImageId) -> str:
    """Returns an id as a file name; different ids have different names."""
    name = f"{id_}".replace("%", "%25").replace("/", "%2F")
    if len(name.encode()) <= LONGEST_NAME:
        return name
    return f"{name[:40]}%{hashlib.blake2b(name.encode(), digest_size=16).hexdigest()}"


class CocoFileImage(NamedTuple):
    """An entry of "images"."""

    id: ImageId
    file_name: str | None
    """Relative to the folder of images; None if the entry has none. LVIS's entries have a coco_url
    instead, of which it is the folder and the name: val2017/000000397133.jpg."""
    size: Size


def list_of(
    content: Any, name: str, where: str, lists: tuple[str, ...] = COCO_LISTS
) -> Sequence[Any]:
    """Returns one of the lists of a file.

    Args:
        content: of the file.
        name: of the list.
        where: the file, for messages.
        lists: the names of all lists of such a file, a key of `FORMATS`.

    Raises:
        ValueError: the file has no such list.
    """
    *others, last = lists
    format_, listed = FORMATS[lists], f"the lists {', '.join(others)} and {last}"
    if not isinstance(content, Mapping):
        raise ValueError(f"{where} holds {shown(content)}; {format_} is an object with {listed}")
    if name not in content:
        raise ValueError(f"{where} has no {name!r}; {format_} has {listed}")
    if not isinstance(content[name], list | tuple):
        raise ValueError(f"{where}: {name} is {shown(content[name])}, not a list")
    return content[name]


def check_images(entries: Sequence[Any], where: str) -> list[CocoFileImage]:
    """Returns the entries of "images".

    Args:
        entries: the list.
        where: the file and the name of the list, for messages.

    Raises:
        ValueError: an id is missing, repeated or of another type than the others, a size is
            impossible, or a file name is invalid or leads out of the folder.
    """
    check_unique(entries, where)
    images = []
    for number, entry in enumerate(entries):
        place = f"{where}[{number}] (id {entry['id']!r})"
        size = check_size(entry, place)
        name = entry.get("file_name")
        if "file_name" in entry:
            check_file_name(name, place)
        elif "coco_url" in entry:
            name = name_in_url(entry["coco_url"], place)
        images.append(CocoFileImage(entry["id"], name, size))
    return images


def check_size(entry: Mapping[str, Any], where: str) -> Size:
    """Returns the height and width of an entry.

    Raises:
        ValueError: one is missing or isn't a number of pixels, or there are too many pixels.
    """
    height, width = (check_side(entry, name, where) for name in ("height", "width"))
    if height * width > MAX_PIXELS:
        raise ValueError(f"{where}: {height} x {width} is more than {MAX_PIXELS} pixels")
    return height, width


def check_side(entry: Mapping[str, Any], name: str, where: str) -> int:
    """Returns the height or width of an entry."""
    if name not in entry:
        raise ValueError(f"{where} has no {name}")
    value = entry[name]
    if not is_whole(value) or not 1 <= value <= MAX_SIDE:
        raise ValueError(
            f"{where}: {name} is {shown(value)}; it must be a whole number of pixels, 1 to "
            f"{MAX_SIDE}"
        )
    return int(value)


def name_in_url(url: Any, where: str) -> str:
    """Returns the folder and the name of the file at an address.

    Raises:
        ValueError: it has none; the message begins with `where`.
    """
    name = "/".join(url.split("/")[-2:]) if isinstance(url, str) else None
    if not is_name(name) or "/" not in name.strip("/"):
        raise ValueError(f"{where}: coco_url is {shown(url)}; it must end with a folder and a file")
    check_file_name(name, where)
    return name


def check_file_name(name: Any, where: str):
    """Refuses what isn't the name of a file in a folder.

    Raises:
        ValueError: the message begins with `where`.
    """
    if not is_name(name):
        raise ValueError(f"{where}: file_name is {shown(name)}; it must be the name of a file")
    if PurePath(name).is_absolute() or os.path.normpath(name).split(os.sep)[0] in ("..", "."):
        raise ValueError(
            f"{where}: file_name is {name!r:.100}, which leads out of its folder; make it relative "
            "to the folder"
        )


def check_categories(entries: Sequence[Any], where: str) -> list[Label]:
    """Returns the entries of "categories".

    Raises:
        ValueError: an id isn't a whole number or is repeated, a name isn't text, or isthing isn't 0
            or 1.
    """
    labels = []
    for number, entry in enumerate(entries):
        place = f"{where}[{number}]"
        if not isinstance(entry, Mapping):
            raise ValueError(f"{place} is {shown(entry)}, not an object")
        for name in ("id", "name"):
            if name not in entry:
                raise ValueError(f"{place} has no {name}")
        id_, name, thing = entry["id"], entry["name"], entry.get("isthing", 1)
        if not is_whole(id_) or abs(id_) > MAX_CATEGORY:
            raise ValueError(f"{place}: id is {shown(id_)}; it must be a whole number")
        if not isinstance(name, str) or not name:
            raise ValueError(f"{place} (id {id_}): name is {shown(name)}; it must be text")
        if not is_flag(thing):
            raise ValueError(f"{place} (id {id_}): isthing is {shown(thing)}; it must be 0 or 1")
        labels.append(Label(id=int(id_), name=name, is_thing=bool(thing)))
    check_unique(entries, where)
    return labels


def check_unique(entries: Sequence[Any], where: str, required: bool = True):
    """Refuses entries whose ids are repeated, or of several types.

    Args:
        entries: a list of a file.
        where: the file and the name of the list.
        required: whether every entry must have an id.

    Raises:
        ValueError: the message names the entries.
    """
    places: dict[Any, int] = {}
    first: tuple[type, int] | None = None
    for number, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            raise ValueError(f"{where}[{number}] is {shown(entry)}, not an object")
        if "id" not in entry:
            if required:
                raise ValueError(f"{where}[{number}] has no id")
            continue
        id_ = entry["id"]
        kind = type(id_)
        if kind is not int and kind is not str:
            if not is_whole(id_):
                raise ValueError(
                    f"{where}[{number}]: id is {shown(id_)}; it must be a whole number or text"
                )
            kind = int
        if kind is str and not (is_name(id_) and len(id_.encode()) <= MAX_TEXT):
            raise ValueError(
                f"{where}[{number}]: id is {shown(id_)}, which can't be part of a file's name; it "
                f"must be a whole number, or text of 1 to {MAX_TEXT} bytes"
            )
        if first is None:
            first = kind, number
        elif kind is not first[0]:
            raise ValueError(
                f"{where}[{number}]: id is {shown(id_)}, but that of [{first[1]}] is "
                f"{shown(entries[first[1]]['id'])}; either all ids are whole numbers, or all text"
            )
        if places.setdefault(id_, number) != number:
            raise ValueError(
                f"{where}[{places[id_]}] and [{number}] share the id {id_!r}; number them anew"
            )
