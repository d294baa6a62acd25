"""Small panoptic images, and what PanopticQuality says of them."""

import numpy as np
from m2f_jax.eval.metrics.panoptic.panoptic_quality import PanopticQuality

CATEGORIES = [
    {"id": 1, "name": "person", "isthing": 1},
    {"id": 2, "name": "car", "isthing": 1},
    {"id": 7, "name": "road", "isthing": 0},
]


def segment(id, category, **more):
    return {"id": id, "category_id": category, **more}


def quality(*images):
    """The result for images of a ground-truth map, its segments, a map and its segments."""
    metric = PanopticQuality(CATEGORIES)
    for gt_map, gt_segments, map, segments in images:
        metric.add(np.array(gt_map), gt_segments, np.array(map), segments)
    return metric.result()


def counts(result, name="car"):
    found = result.per_class[name]
    return found.tp, found.fp, found.fn


GOOD = ([[5, 5], [0, 7]], [segment(5, 2), segment(7, 7)], [[1, 1], [0, 0]], [segment(1, 2)])
