"""Overlaps of tracks, which have a mask in each frame of a video."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float

from m2f_jax.masks.rle import Encoding


def track_overlaps(
    tracks: Sequence[Sequence[Encoding | None]], others: Sequence[Sequence[Encoding | None]]
) -> Float[np.ndarray, "tracks others"]:
    """Returns the overlaps of tracks: their intersection over union, each summed over all frames.

    Args:
        tracks: each with a sound encoding for every frame, None where it has no mask.
        others: as `tracks`.

    Returns:
        For each of `tracks`, its overlap with each of `others`, as YouTubeVIS defines it; 0 where
        neither has a mask.
    """
    common = np.zeros((len(tracks), len(others)))
    areas = np.zeros(len(tracks)), np.zeros(len(others))
    for frame in range(max(map(len, [*tracks, *others]), default=0)):
        seen = [[i for i, x in enumerate(group) if x[frame]] for group in (tracks, others)]
        masks: list[Any] = [
            [group[i][frame] for i in places]
            for group, places in zip((tracks, others), seen, strict=True)
        ]
        # One by one, since pycocotools takes no list of more than 255.
        own = [np.array([coco_mask.area(one) for one in x], np.float64) for x in masks]
        for total, places, area in zip(areas, seen, own, strict=True):
            total[places] += area
        if masks[0] and masks[1]:
            # By its rule for groups, pycocotools divides intersections by the first masks' areas.
            shares = np.array(coco_mask.iou(masks[0], masks[1], [1] * len(masks[1])))
            common[np.ix_(*seen)] += np.round(shares * own[0][:, None])
    union = areas[0][:, None] + areas[1] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)
