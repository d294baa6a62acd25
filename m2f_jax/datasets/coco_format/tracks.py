"""The reader of files in YouTubeVIS's format: videos, and objects with an outline per frame."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from m2f_jax.datasets.coco_format.faults import EntryError, Invalid
from m2f_jax.datasets.coco_format.file import distinct
from m2f_jax.datasets.coco_format.lists import (
    VIDEO_LISTS,
    ImageId,
    check_categories,
    check_file_name,
    check_size,
    check_unique,
    list_of,
)
from m2f_jax.datasets.coco_format.objects import (
    check_area,
    crowd_flag,
    known_category,
    known_owner,
    refuse_or_skip,
)
from m2f_jax.datasets.coco_format.outlines import Outline, check_encoded, outline_of
from m2f_jax.datasets.coco_format.values import is_whole, shown
from m2f_jax.files import read_json
from m2f_jax.labels import Label
from m2f_jax.sizes import Size

MAX_LENGTH = 10**6  # frames


class VideoEntry(NamedTuple):
    """An entry of "videos"."""

    id: ImageId
    file_names: tuple[str, ...] | None
    """Of the frames, relative to the folder of frames; None if the entry has none."""
    length: int
    size: Size


class Track(NamedTuple):
    """An object of a video."""

    id: int | str | None
    video_id: ImageId
    category_id: int
    outlines: tuple[Outline | None, ...]
    """Of each frame; None where the object isn't seen."""
    areas: tuple[float | None, ...] | None
    """Of each frame; None if the file has none."""
    iscrowd: bool


@dataclass(frozen=True, kw_only=True)
class VideoFile:
    """The content of a file in YouTubeVIS's format.

    Attributes:
        where: the file, for messages.
        videos: in the order of the file.
        categories: in the order of the file.
        tracks: in the order of the file.
    """

    where: str
    videos: tuple[VideoEntry, ...] = field(repr=False)
    categories: tuple[Label, ...]
    tracks: tuple[Track, ...] = field(repr=False)


def read_video_file(path: str | os.PathLike, invalid: Invalid = "refuse") -> VideoFile:
    """Reads and checks a file in YouTubeVIS's format.

    Args:
        path: the file.
        invalid: "refuse" to refuse a file with objects that can't be used, and list these; "skip"
            to leave them out, and count them in the log.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it isn't in this format, ids are there twice or of several kinds, or (unless
            they are left out) objects can't be used; what and where is named.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is missing; expected a YouTubeVIS annotation file")
    return check_video_file(read_json(path), os.fspath(path), invalid)


def check_video_file(content: Any, where: str, invalid: Invalid = "refuse") -> VideoFile:
    """Returns the checked content of a file in this format; see `read_video_file`."""
    if isinstance(content, Mapping) and content.get("annotations", ()) is None:
        raise ValueError(
            f"{where}: annotations is null: the labels of YouTubeVIS's valid and test aren't "
            "public; score a part of train, or send results to its server"
        )
    videos, categories, annotations = (
        list_of(content, name, where, VIDEO_LISTS) for name in VIDEO_LISTS
    )
    known = {video.id: video for video in check_videos(videos, f"{where}: videos")}
    labels = {label.id: label for label in check_categories(categories, f"{where}: categories")}
    check_unique(annotations, f"{where}: annotations", required=False)
    tracks = check_tracks(annotations, known, labels, where, invalid)
    used = {track.category_id for track in tracks}
    return VideoFile(
        where=where,
        videos=tuple(known.values()),
        categories=distinct(tuple(labels.values()), used, where),
        tracks=tracks,
    )


def check_videos(entries: Sequence[Any], where: str) -> list[VideoEntry]:
    """Returns the entries of "videos".

    Args:
        entries: the list.
        where: the file and the name of the list, for messages.

    Raises:
        ValueError: an id is missing, repeated or of another type than the others, a size or length
            is impossible, or a file name is invalid or leads out of the folder.
    """
    check_unique(entries, where)
    videos = []
    for number, entry in enumerate(entries):
        place = f"{where}[{number}] (id {entry['id']!r})"
        size, names, length = check_size(entry, place), entry.get("file_names"), entry.get("length")
        if names is not None:
            if not isinstance(names, list | tuple):
                raise ValueError(f"{place}: file_names is {shown(names)}, not a list")
            for k, name in enumerate(names):
                check_file_name(name, f"{place}: file_names[{k}]")
            length = len(names) if "length" not in entry else length
        if not is_whole(length) or not 1 <= length <= MAX_LENGTH:
            raise ValueError(
                f"{place}: length is {shown(length)}; it must be a number of frames, 1 to "
                f"{MAX_LENGTH}"
            )
        if names is not None and len(names) != length:
            raise ValueError(f"{place}: length is {length}, but there are {len(names)} file_names")
        videos.append(
            VideoEntry(entry["id"], None if names is None else tuple(names), int(length), size)
        )
    return videos


def check_tracks(
    entries: Sequence[Any],
    videos: Mapping[ImageId, VideoEntry],
    categories: Mapping[int, Label],
    where: str,
    invalid: Invalid,
) -> tuple[Track, ...]:
    """Returns the objects of a file, without those that can't be used.

    Raises:
        ValueError: some can't be used, and `invalid` is "refuse".
    """
    tracks: dict[int, Track] = {}
    faulty: dict[int, EntryError] = {}
    for number, entry in enumerate(entries):
        try:
            tracks[number] = track_of(entry, videos, categories)
        except EntryError as fault:
            faulty[number] = fault
    places = [(number, t) for number, track in tracks.items() for t in range(len(track.outlines))]
    outlines, broken = check_encoded(
        [tracks[number].outlines[t] for number, t in places],
        [videos[tracks[number].video_id].size for number, _ in places],
    )
    for index, fault in broken.items():
        number, t = places[index]
        faulty.setdefault(number, EntryError(fault.kind, f"frame {t}: {fault}"))
    sound = iter(outlines)
    kept = {
        number: track._replace(outlines=tuple(next(sound) for _ in track.outlines))
        for number, track in tracks.items()
    }
    refuse_or_skip(faulty, entries, where, invalid)
    return tuple(track for number, track in kept.items() if number not in faulty)


def track_of(
    entry: Mapping[str, Any], videos: Mapping[ImageId, VideoEntry], categories: Mapping[int, Label]
) -> Track:
    """Returns an annotation, checked but for compressed run lengths.

    Raises:
        EntryError: it can't be used.
    """
    video, category_id = known_owner(entry, videos, "video"), known_category(entry, categories)
    iscrowd = crowd_flag(entry)
    outlines = outlines_of(entry, video)
    areas = entry.get("areas")
    if areas is not None:
        for t, area in enumerate(frames_of(areas, "areas", video)):
            if area is not None:
                check_area(area, f"areas[{t}]")
        areas = tuple(area if area is None else float(area) for area in areas)
    return Track(entry.get("id"), video.id, category_id, outlines, areas, iscrowd)


def outlines_of(entry: Mapping[str, Any], video: VideoEntry) -> tuple[Outline | None, ...]:
    """Returns an annotation's or a result's outline in each frame; None where it has none.

    Raises:
        EntryError: one can't be used, or there isn't one for each frame.
    """
    if "segmentations" not in entry:
        wrong = "; segmentation, of one image, isn't read" if "segmentation" in entry else ""
        raise EntryError("no outline", f"it has no segmentations{wrong}")
    outlines: list[Outline | None] = []
    for t, one in enumerate(frames_of(entry["segmentations"], "segmentations", video)):
        try:
            outlines.append(None if one in (None, []) else outline_of(one, video.size))
        except EntryError as fault:
            raise EntryError(fault.kind, f"segmentations[{t}]: {fault}") from None
    return tuple(outlines)


def frames_of(values: Any, name: str, video: VideoEntry) -> Sequence[Any]:
    """Returns `values` if they are a list with a value for each frame of a video.

    Raises:
        EntryError: they are something else.
    """
    if not isinstance(values, list | tuple):
        raise EntryError(name, f"{name} is {shown(values)}, not a list with one for each frame")
    if len(values) != video.length:
        raise EntryError(
            "number of frames",
            f"{name} has {len(values)} entries, but video {video.id!r} has {video.length} frames",
        )
    return values
