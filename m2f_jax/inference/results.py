"""The segmentation of one image or video, as numpy arrays, and its file formats.

Axes: N instances, best score first; T frames; heights and widths in pixels of the original image.
"""

import functools
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Bool, Float, Int, UInt8
from PIL import Image

from m2f_jax.files import replacing
from m2f_jax.labels import Label
from m2f_jax.masks.boxes import mask_box, packed_box, unpack_masks, unpack_window
from m2f_jax.masks.rle import encode_rle
from m2f_jax.sizes import Size

Found = TypeVar("Found", bound="FoundInstances")


@dataclass(frozen=True, eq=False, kw_only=True)
class FoundInstances:
    """The instances of one image or video, best score first; masks may overlap.

    Attributes:
        scores: confidence of each instance, 0 to 1.
        labels: class index of each instance, from 0.
        queries: index of the query behind each instance.
        size: height and width of the image or of the frames.
        packed_masks: each mask with eight pixels to a byte of a row, the first in the highest bit,
            as `numpy.packbits` makes them; bits beyond the width are 0.
    """

    scores: Float[np.ndarray, "N"]
    labels: Int[np.ndarray, "N"]
    queries: Int[np.ndarray, "N"]
    size: Size
    packed_masks: Sequence[UInt8[np.ndarray, "*T height bytes"]]

    def __len__(self) -> int:
        return len(self.scores)

    def select(self: Found, keep: Bool[np.ndarray, "N"] | Int[np.ndarray, "kept"]) -> Found:
        """Returns the instances where `keep` is True, or those at these indices, in that order."""
        kept = np.arange(len(self))[keep]
        return type(self)(
            scores=self.scores[kept],
            labels=self.labels[kept],
            queries=self.queries[kept],
            size=self.size,
            packed_masks=tuple(self.packed_masks[i] for i in kept),
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class InstanceSegmentation(FoundInstances):
    """The instances of one image, best score first; masks may overlap.

    Packed masks take an eighth of the memory of `masks`, whose first use unpacks all of them; file
    formats unpack one at a time.

    Attributes are those of `FoundInstances`.
    """

    packed_masks: Sequence[UInt8[np.ndarray, "height bytes"]]

    @classmethod
    def from_masks(
        cls,
        *,
        scores: Float[np.ndarray, "N"],
        labels: Int[np.ndarray, "N"],
        masks: Bool[np.ndarray, "N height width"],
        queries: Int[np.ndarray, "N"],
    ) -> "InstanceSegmentation":
        """Packs masks and returns instances with them."""
        _, height, width = masks.shape
        packed = tuple(np.packbits(masks, axis=-1))
        return cls(
            scores=scores, labels=labels, queries=queries, size=(height, width), packed_masks=packed
        )

    @functools.cached_property
    def masks(self) -> Bool[np.ndarray, "N height width"]:
        """True where the instance is, in the size of the image; can't be written to."""
        masks = unpack_masks(self.packed_masks, self.size)
        masks.flags.writeable = False
        return masks

    @functools.cached_property
    def boxes(self) -> Float[np.ndarray, "N 4"]:
        """Left, top, right, bottom of each mask in pixels, float32.

        Right and bottom are exclusive, and an empty mask has zeros.
        """
        boxes = [packed_box(packed) for packed in self.packed_masks]
        return np.array(boxes, np.float32).reshape(-1, 4)

    @functools.cached_property
    def areas(self) -> Int[np.ndarray, "N"]:
        """The number of pixels of each mask."""
        areas = [np.count_nonzero(self.mask_in_box(i)) for i in range(len(self))]
        return np.array(areas, np.int64)

    def mask_in_box(self, index: int) -> Bool[np.ndarray, "rows columns"]:
        """Returns the part of a mask that lies in its box, without unpacking the rest."""
        left, top, right, bottom = map(int, self.boxes[index])
        return unpack_window(self.packed_masks[index], top, left, bottom, right)

    def to_rle(self) -> list[dict[str, Any]]:
        """Returns the masks as COCO run-length encodings, `{"size", "counts"}`, ready for JSON."""
        return [encode_rle(mask) for mask in self._one_by_one()]

    def _one_by_one(self) -> Iterator[Bool[np.ndarray, "height width"]]:
        for packed in self.packed_masks:
            yield unpack_masks([packed], self.size)[0]

    def to_coco(self, labels: Sequence[Label], image_id: int | str) -> list[dict[str, Any]]:
        """Returns the instances as entries of a COCO results file.

        They have no `bbox`: beside one, pycocotools takes the box's area for the instance's, which
        changes APs, APm and APl. `boxes` has them.

        Args:
            labels: the classes, in the order of the class indices.
            image_id: the image's id in the data set.
        """
        return [
            {
                "image_id": image_id,
                "category_id": labels[label].id,
                "segmentation": encode_rle(mask),
                "score": float(score),
            }
            for score, label, mask in zip(self.scores, self.labels, self._one_by_one(), strict=True)
        ]

    def save_cityscapes(
        self,
        folder: str | os.PathLike,
        stem: str,
        labels: Sequence[Label],
        *,
        overwrite: bool = False,
    ):
        """Writes one image's files for the Cityscapes instance benchmark.

        `<stem>.txt` has one line per instance, `mask.png labelId score`. The masks lie next to it
        as `<stem>_<number>_<class>.png`, 0 and 255. The text file is written last, and is empty
        if there are no instances.

        Args:
            folder: where the files go; it is made if it doesn't exist.
            stem: `<city>_<sequence>_<frame>`, perhaps with more after it; no blanks or slashes.
            labels: the classes, in the order of the class indices.
            overwrite: whether files of an earlier run may be replaced.

        Raises:
            FileExistsError: a file is there already and `overwrite` is False; nothing was written.
            ValueError: the stem isn't a plain file name, or a score isn't a number.
        """
        if not re.fullmatch(r"[^\s/\\]+", stem):
            raise ValueError(f"the stem {stem!r} isn't a file name without blanks and slashes")
        if not np.isfinite(self.scores).all():
            raise ValueError(f"{stem} has scores that are not finite: {self.scores}")
        folder = Path(folder)
        classes = [labels[label] for label in self.labels]
        names = [
            f"{stem}_{i}_{re.sub(r'[^a-zA-Z0-9-]+', '_', label.name)}.png"
            for i, label in enumerate(classes)
        ]
        for name in [f"{stem}.txt", *names]:
            if not overwrite and (folder / name).exists():
                raise FileExistsError(f"{folder / name} exists; pass overwrite=True to replace it")
        folder.mkdir(parents=True, exist_ok=True)
        lines = []
        masks = self._one_by_one()
        for name, label, score, mask in zip(names, classes, self.scores, masks, strict=True):
            # Level 1 is faster than the default, and the files stay small.
            Image.fromarray(mask.view(np.uint8) * np.uint8(255)).save(
                folder / name, compress_level=1
            )
            lines.append(f"{name} {label.id} {np.format_float_positional(float(score))}\n")
        with replacing(folder / f"{stem}.txt") as unfinished:
            unfinished.write_text("".join(lines))


@dataclass(frozen=True, eq=False, kw_only=True)
class VideoInstanceSegmentation(FoundInstances):
    """The instances of one video, best score first; masks may overlap, and be empty in a frame.

    Packed masks take an eighth of the memory of `masks`. Attributes are those of `FoundInstances`.
    """

    packed_masks: Sequence[UInt8[np.ndarray, "T height bytes"]]

    @functools.cached_property
    def masks(self) -> Bool[np.ndarray, "N T height width"]:
        """True where the instance is, in the size of the video; can't be written to."""
        frames = [unpack_masks(tuple(packed), self.size) for packed in self.packed_masks]
        masks = np.stack(frames) if frames else np.zeros((0, 0, *self.size), bool)
        masks.flags.writeable = False
        return masks

    def frame(self, number: int) -> InstanceSegmentation:
        """Returns all instances in one frame, from 0; in it, masks may be empty."""
        return InstanceSegmentation(
            scores=self.scores,
            labels=self.labels,
            queries=self.queries,
            size=self.size,
            packed_masks=tuple(packed[number] for packed in self.packed_masks),
        )

    def to_rle(self) -> list[list[dict[str, Any] | None]]:
        """Returns each instance's masks as COCO run-length encodings; None where they are empty."""
        return [
            [
                encode_rle(unpack_masks([frame], self.size)[0]) if frame.any() else None
                for frame in packed
            ]
            for packed in self.packed_masks
        ]

    def to_ytvis(self, labels: Sequence[Label], video_id: int | str) -> list[dict[str, Any]]:
        """Returns the instances as entries of a results file of YouTubeVIS.

        Args:
            labels: the classes, in the order of the class indices.
            video_id: the video's id in the data set.
        """
        return [
            {
                "video_id": video_id,
                "category_id": labels[label].id,
                "score": float(score),
                "segmentations": track,
            }
            for score, label, track in zip(self.scores, self.labels, self.to_rle(), strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment of a panoptic map.

    Attributes:
        id: its value in the segment map, from 1.
        label: class index, from 0.
        is_thing: whether it is one countable object, rather than all stuff of its class.
        score: confidence, 0 to 1.
    """

    id: int
    label: int
    is_thing: bool
    score: float


@dataclass(frozen=True, eq=False, kw_only=True)
class PanopticSegmentation:
    """The segmentation of one image into segments that don't overlap.

    Attributes:
        segment_map: the id of the segment at every pixel; 0 where there is none (void).
        segments: what the ids in the map stand for.
    """

    segment_map: Int[np.ndarray, "height width"]
    segments: tuple[Segment, ...]

    def __len__(self) -> int:
        return len(self.segments)

    def to_coco(
        self, labels: Sequence[Label], image_id: int | str, file_name: str
    ) -> dict[str, Any]:
        """Returns the image's entry in a COCO panoptic file.

        Args:
            labels: the classes, in the order of the class indices.
            image_id: the image's id in the data set.
            file_name: the PNG file with the ids, which holds `to_rgb()`.

        Raises:
            ValueError: the segments aren't exactly those of the map.
        """
        infos = []
        for segment in self.segments:
            mask = self.segment_map == segment.id
            left, top, right, bottom = mask_box(mask)
            infos.append(
                {
                    "id": segment.id,
                    "category_id": labels[segment.label].id,
                    "area": int(np.count_nonzero(mask)),
                    "bbox": [left, top, right - left, bottom - top],
                    "iscrowd": 0,
                    "isthing": int(segment.is_thing),
                    "score": float(segment.score),
                }
            )
        areas = [info["area"] for info in infos]
        if not all(areas) or sum(areas) != np.count_nonzero(self.segment_map):
            raise ValueError(
                f"the segments {[segment.id for segment in self.segments]} are not those of the "
                f"segment map, {np.unique(self.segment_map[self.segment_map != 0]).tolist()}"
            )
        return {"image_id": image_id, "file_name": file_name, "segments_info": infos}

    def to_rgb(self) -> UInt8[np.ndarray, "height width 3"]:
        """Returns the segment ids as colors, in COCO's panoptic format: id = R + 256 G + 65536 B.

        Raises:
            ValueError: an id doesn't fit into 24 bits.
        """
        low, high = self.segment_map.min(initial=0), self.segment_map.max(initial=0)
        if low < 0 or high >= 2**24:
            raise ValueError(f"segment ids go from {low} to {high}; 0 to 2**24 - 1 can be stored")
        ids = np.ascontiguousarray(self.segment_map, "<u4")
        return np.ascontiguousarray(ids.view(np.uint8).reshape(*ids.shape, 4)[..., :3])


Segmentation = InstanceSegmentation | PanopticSegmentation | Int[np.ndarray, "height width"]
