"""One image's segmentation as a row of a table."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segmentation,
)
from m2f_jax.labels import Label
from m2f_jax.masks.boxes import mask_box
from m2f_jax.masks.rle import encode_rle


def segments_of(segmentation: Segmentation, labels: Sequence[Label]) -> list[dict[str, Any]]:
    """Returns what an image shows, in the form of `parts.SEGMENT`.

    Instances come best score first, segments of a panoptic map in order of their ids, and classes
    of a semantic map in order of their indices.
    """
    if isinstance(segmentation, InstanceSegmentation):
        boxes = segmentation.boxes.astype(int).tolist()
        return [
            segment(labels[label], float(score), rle["counts"], box, int(area))
            for label, score, rle, box, area in zip(
                segmentation.labels,
                segmentation.scores,
                segmentation.to_rle(),
                boxes,
                segmentation.areas,
                strict=True,
            )
        ]
    if isinstance(segmentation, PanopticSegmentation):
        found = [
            (x.label, x.score, segmentation.segment_map == x.id) for x in segmentation.segments
        ]
    else:
        found = [(k, None, segmentation == k) for k in np.unique(segmentation)]
    return [
        segment(
            labels[k],
            score,
            encode_rle(mask)["counts"],
            mask_box(mask),
            int(np.count_nonzero(mask)),
        )
        for k, score, mask in found
    ]


def segment(
    label: Label, score: float | None, counts: str, box: Sequence[int], area: int
) -> dict[str, Any]:
    """Returns one segment; `box` is left, top, right and bottom."""
    left, top, right, bottom = map(int, box)
    return {
        "category_id": label.id,
        "label": label.name,
        "isthing": label.is_thing,
        "score": score,
        "bbox": [left, top, right - left, bottom - top],
        "area": area,
        "counts": counts,
    }
