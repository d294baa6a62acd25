"""The instances of an annotation file in COCO's or YouTubeVIS's format, as metrics take them."""

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask

from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.coco_format.file import CocoFile, check_coco, read_coco_file
from m2f_jax.datasets.coco_format.lists import ImageId
from m2f_jax.datasets.coco_format.outlines import Outline, outline_counts
from m2f_jax.datasets.coco_format.tracks import VideoFile, check_video_file, read_video_file
from m2f_jax.sizes import Size

logger = logging.getLogger("m2f_jax")


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoAnnotations:
    """A data set's instances, read and checked once; several metrics may share them.

    Attributes:
        sizes: height and width of the images, by id; of videos, length, height and width.
        names: of the categories, by id.
        objects: entries of an annotation file; their segmentations are compressed run lengths, of
            videos a list of them with None for frames without.
        path: the file, if they come from one.
    """

    sizes: dict[ImageId, tuple[int, ...]]
    names: dict[int, str]
    objects: list[dict[str, Any]]
    path: str | None

    @functools.cached_property
    def digest(self) -> str:
        """A fingerprint of all that decides a result."""
        return self.digest_with(())

    def digest_with(self, rules: Sequence[Any]) -> str:
        """Returns a fingerprint of sizes, names and objects, and of further rules."""
        content = [list(self.sizes.items()), list(self.names.items()), [*self.objects, *rules]]
        return hashlib.blake2b(json.dumps(content).encode(), digest_size=16).hexdigest()

    @classmethod
    def of(
        cls, source: str | os.PathLike | Mapping[str, Any] | CocoFile, invalid: Invalid = "refuse"
    ) -> "CocoAnnotations":
        """Reads an annotation file, or its content.

        An object without an "area" has that of its mask; one without "iscrowd" is no crowd.

        Args:
            source: the file, its content, or what was read from it.
            invalid: what becomes of objects that can't be used, see `read_coco_file`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as `read_coco_file`, or it is a panoptic file.
        """
        file, path = opened(source, invalid)
        if file.panoptic is not None:
            raise ValueError(f"{file.where} is a panoptic file; mask AP needs one of objects")
        sizes = dict(sorted((image.id, image.size) for image in file.images))
        names = dict(sorted((label.id, label.name) for label in file.categories))
        objects = []
        for found in file.objects:
            rle = run_lengths_of(found.outline, sizes[found.image_id])
            area = float(coco_mask.area(rle)) if found.area is None else found.area
            objects.append(
                {
                    "image_id": found.image_id,
                    "category_id": found.category_id,
                    "segmentation": rle,
                    "area": area,
                    "iscrowd": int(found.iscrowd),
                }
            )
        if any(found.id == 0 for found in file.objects):
            logger.warning(
                "%s: annotation 0 is counted as all others; pycocotools takes its id for no match, "
                "so its own numbers are too low",
                file.where,
            )
        return cls(sizes={**sizes}, names=names, objects=objects, path=path)

    @classmethod
    def of_videos(
        cls, source: str | os.PathLike | Mapping[str, Any] | VideoFile, invalid: Invalid = "refuse"
    ) -> "CocoAnnotations":
        """Reads an annotation file in YouTubeVIS's format, or its content.

        An object's area is the mean over the frames that have any, of "areas" or else of its masks.

        Args:
            source: the file, its content, or what was read from it.
            invalid: what becomes of objects that can't be used, see `read_video_file`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as `read_video_file`.
        """
        path = None
        if isinstance(source, VideoFile):
            file, path = source, source.where
        elif isinstance(source, Mapping):
            file = check_video_file(source, "the annotations", invalid)
        else:
            file, path = read_video_file(source, invalid), os.fspath(source)
        videos = {video.id: video for video in sorted(file.videos, key=lambda video: video.id)}
        sizes = {video.id: (video.length, *video.size) for video in videos.values()}
        names = dict(sorted((label.id, label.name) for label in file.categories))
        objects = []
        for track in file.tracks:
            size = videos[track.video_id].size
            masks = [x if x is None else run_lengths_of(x, size) for x in track.outlines]
            areas = track.areas
            if areas is None:
                areas = [None if mask is None else float(coco_mask.area(mask)) for mask in masks]
            objects.append(
                {
                    "image_id": track.video_id,
                    "category_id": track.category_id,
                    "segmentation": masks,
                    "area": mean_area(areas),
                    "iscrowd": int(track.iscrowd),
                }
            )
        return cls(sizes=sizes, names=names, objects=objects, path=path)


def opened(
    source: str | os.PathLike | Mapping[str, Any] | CocoFile, invalid: Invalid
) -> tuple[CocoFile, str | None]:
    """Returns an annotation file and its path, if it has one; see `CocoAnnotations.of`."""
    if isinstance(source, CocoFile):
        return source, source.where
    if isinstance(source, Mapping):
        return check_coco(source, "the annotations", invalid), None
    return read_coco_file(source, invalid), os.fspath(source)


def run_lengths_of(outline: Outline, size: Size) -> Any:
    """Returns an outline as compressed run lengths."""
    return {"size": list(size), "counts": outline_counts(outline, size).decode()}


def mean_area(areas: Sequence[float | None]) -> float:
    """Returns the mean over those frames in which a track has any area, as YouTubeVIS has it."""
    seen = [area for area in areas if area]
    return float(np.mean(seen)) if seen else 0.0
