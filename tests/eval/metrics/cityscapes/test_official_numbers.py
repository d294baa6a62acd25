"""The numbers are the official script's, to the last bit."""

import math
import warnings

import jax.numpy as jnp
import numpy as np
import pytest
from m2f_jax.eval import CityscapesInstanceAP, Regions, count_on_device

from m2f_jax.masks.rle import encode_rle
from tests.eval.metrics.cityscapes.conftest import (
    assert_same_numbers,
    load_golden,
    same_dot_products,
)


@pytest.mark.parametrize("route", ["masks", "rles", "device"])
def test_numbers_are_the_official_ones_to_the_last_bit(route):
    scenes, dots = load_golden()
    exact = same_dot_products(dots)
    for scene in scenes:
        metric = CityscapesInstanceAP()
        for image in scene.images:
            if route == "masks":
                image.add_to(metric)
            elif route == "rles":
                image.masks = [encode_rle(mask) for mask in image.masks]
                image.instance_ids = Regions.of(image.instance_ids)
                image.add_to(metric)
            else:
                add_by_device(metric, image)
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            result = metric.result()
        assert bool(warned) == scene.official_fails
        numbers = [result.ap, result.ap50, result.ap100m, result.ap50m, result.ap5050m]
        numbers = [math.nan if number is None else number for number in numbers]
        assert_same_numbers(result.ap_matrix, scene.ap_matrix[0], exact)
        assert_same_numbers(numbers, scene.averages, exact)
        if scene.images[0].distances is not None:
            assert_same_numbers(result.near[100], scene.ap_matrix[1], exact)
            assert_same_numbers(result.near[50], scene.ap_matrix[2], exact)


def add_by_device(metric, image):
    regions = Regions.of(image.instance_ids)
    packed = np.zeros((64, 128, 16), np.uint8)  # so that all images need one compilation
    packed[: len(image.masks), :64, :12] = np.packbits(image.masks, axis=-1)
    counts = count_on_device(
        jnp.asarray(packed),
        jnp.asarray(regions.index_map((128, 128))),
        num_columns=64,
    )
    kept = slice(len(image.masks))
    metric.add_table(
        regions,
        counts.table[kept],
        counts.areas[kept],
        image.labels,
        image.scores,
        distances=image.distances,
    )


# Hand cases: one row of cells, each 100 pixels wide, so that areas are in hundreds.
