"""Average precision of tracks in videos, by YouTubeVIS's rules.

They are COCO's for other overlaps: of two tracks, the sum of all frames' intersections by the sum
of their unions. pycocotools matches and counts, as for images.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np

from m2f_jax.masks.rle import encode_rle, sound_counts

from .annotations import CocoAnnotations
from .mask_ap import CocoMaskAP, CocoMaskAPResult, check_masks
from .tool import Curves, Inputs, Tool, joined, track_precision_and_recall


class TrackAPResult(CocoMaskAPResult):
    """The twelve numbers of YouTubeVIS; an object's area is its mean over the frames it is in."""

    rules: ClassVar[str] = "YouTubeVIS"
    unit: ClassVar[str] = "a video, of each class"
    small: ClassVar[int] = 128
    large: ClassVar[int] = 256


class TrackAP(CocoMaskAP):
    """Track AP over any number of videos: `add` each one, then ask for the `result`.

    The numbers are those of YouTubeVIS's own evaluation. It takes what `CocoMaskAP` takes, with
    videos in place of images and `CocoAnnotations.of_videos`; only pycocotools can compute it. Of a
    video of T frames, the masks to add are bool [N, T, height, width]; or N lists, each of T
    run-length encodings or None.
    """

    kind: ClassVar[str] = "video"
    format: ClassVar[str] = "TrackAP 1"
    tools: ClassVar[Sequence[Tool]] = ("pycocotools",)
    result_type: ClassVar[type[CocoMaskAPResult]] = TrackAPResult

    @staticmethod
    def default_tool() -> Tool:
        """Returns the only tool that can compare tracks."""
        return "pycocotools"

    @staticmethod
    def annotations_of(
        source: str | os.PathLike | Mapping[str, Any] | CocoAnnotations,
    ) -> CocoAnnotations:
        """Reads the ground truth, unless it was read before."""
        return source if isinstance(source, CocoAnnotations) else CocoAnnotations.of_videos(source)

    @staticmethod
    def counts_of(masks: Any, size: tuple[int, ...]) -> list[bytes]:
        """Returns the tracks of a video of this length and size as compressed run lengths.

        Raises:
            ValueError: a length, a size or an encoding isn't right.
        """
        length, height, width = size
        if isinstance(masks, np.ndarray):
            check_masks(masks, size)
            return [
                joined([encode_rle(x)["counts"].encode() if x.any() else None for x in track])
                for track in masks
            ]
        counts = []
        for track in masks:
            if len(track) != length:
                raise ValueError(f"a track has {len(track)} frames, the video {length}")
            sound = iter(sound_counts([x for x in track if x is not None], (height, width)))
            counts.append(joined([None if x is None else next(sound) for x in track]))
        return counts

    def _curves(self, inputs: Inputs) -> Curves:
        return track_precision_and_recall(inputs)
