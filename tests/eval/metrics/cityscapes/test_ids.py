"""What Cityscapes' instance ids mean."""

import numpy as np
import pytest
from m2f_jax.eval.metrics.cityscapes.ids import panoptic_ground_truth
from m2f_jax.eval.metrics.panoptic.panoptic_quality import PanopticQuality

from m2f_jax.labels import CITYSCAPES


def test_instance_ids_become_segments_groups_and_void():
    ids = np.array([[26001, 26, 7, 29003], [24000, 3, 30, 7002]], np.uint16)
    found, segments = panoptic_ground_truth(ids)
    np.testing.assert_array_equal(found, [[26001, 26, 7, 0], [24000, 0, 0, 7002]])
    assert [tuple(entry.values()) for entry in segments] == [
        (7, 7, 1, 0),
        (26, 26, 1, 1),
        (7002, 7, 1, 0),
        (24000, 24, 1, 0),
        (26001, 26, 1, 0),
    ]
    metric = PanopticQuality(CITYSCAPES)
    metric.add(found, segments, found, segments)
    assert metric.result().all.pq == 1


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (np.zeros((2, 2)), "must be whole numbers"),
        (np.zeros((2, 2, 3), int), r"of the shape \(2, 2, 3\)"),
        (np.array([[-1, 7]]), "go from -1 to 7"),
        (np.array([[34000]]), "go from 0 to 34000"),
        (np.array([[34, 255, 7]]), r"the instance ids \[34, 255\] belong to no class"),
    ],
)
def test_instance_ids_that_are_none(ids, message):
    with pytest.raises(ValueError, match=f"image ulm: .*{message}"):
        panoptic_ground_truth(ids, image="ulm")
