"""A segmentation as one JSON value, which the page draws and API clients read."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, UInt8

from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segmentation,
)
from m2f_jax.labels import Label
from m2f_jax.masks.boxes import mask_box, unpack_masks
from m2f_jax.masks.rle import encode_rle
from m2f_jax.visualization.color import class_colors, thing_colors


def answer_of(
    image: UInt8[np.ndarray, "height width 3"],
    segmentation: Segmentation,
    labels: Sequence[Label],
) -> dict[str, Any]:
    """Returns `{"size": [height, width], "segments": [...]}`.

    A segment has `category_id`, `class`, `is_thing`, `score` (None of semantic classes), `area` in
    pixels, `bbox` (left, top, width, height), `color` ("#rrggbb", as overlays have it) and
    `segmentation`, COCO's run-length encoding. The best scores come first; of semantic classes, the
    largest areas.

    Args:
        image: what was segmented.
        segmentation: what a model with these classes found.
        labels: the classes, in the order of the class indices.
    """
    found = list(segments_of(segmentation, labels))
    boxes = np.array([mask_box(mask) for *_, mask in found], int).reshape(-1, 4)
    by_class = class_colors(tuple(x.name for x in labels), muted=True)
    colors = by_class[[label for label, *_ in found]]
    if not isinstance(segmentation, np.ndarray):
        things = np.flatnonzero([is_thing for _, is_thing, *_ in found])
        colors[things] = thing_colors(image, boxes[things])
    segments = []
    for (label, is_thing, score, mask), box, color in zip(found, boxes, colors, strict=True):
        left, top, right, bottom = box.tolist()
        segments.append(
            {
                "category_id": labels[label].id,
                "class": labels[label].name,
                "is_thing": is_thing,
                "score": score,
                "area": int(np.count_nonzero(mask)),
                "bbox": [left, top, right - left, bottom - top],
                "color": "#" + color.tobytes().hex(),
                "segmentation": encode_rle(mask),
            }
        )
    key = "area" if isinstance(segmentation, np.ndarray) else "score"
    segments.sort(key=lambda segment: -segment[key])
    return {"size": list(image.shape[:2]), "segments": segments}


def segments_of(
    segmentation: Segmentation, labels: Sequence[Label]
) -> Iterator[tuple[int, bool, float | None, Bool[np.ndarray, "height width"]]]:
    """Yields each segment: class index, whether it is a thing, score (None of classes), mask."""
    if isinstance(segmentation, InstanceSegmentation):
        parts = zip(
            segmentation.labels, segmentation.scores, segmentation.packed_masks, strict=True
        )
        for label, score, packed in parts:
            if packed.any():
                [mask] = unpack_masks([packed], segmentation.size)
                yield int(label), True, float(score), mask
    elif isinstance(segmentation, PanopticSegmentation):
        for segment in segmentation.segments:
            mask = segmentation.segment_map == segment.id
            yield segment.label, segment.is_thing, float(segment.score), mask
    else:
        yield from classes_of(segmentation, labels)


def classes_of(
    label_map: Int[np.ndarray, "height width"], labels: Sequence[Label]
) -> Iterator[tuple[int, bool, None, Bool[np.ndarray, "height width"]]]:
    """Yields the classes in a semantic map in the same form."""
    for label in np.unique(label_map).tolist():
        if label >= 0:
            yield label, labels[label].is_thing, None, label_map == label
