"""Cityscapes instance AP without the masks leaving the device: only tables of counts come back."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32, Integer

from m2f_jax.inference.postprocess import Instances
from m2f_jax.inference.processor import FOR_EVALUATION, ImageProcessor
from m2f_jax.inference.upsampling import AnyArray
from m2f_jax.sizes import Size

from ..metrics.cityscapes.device_tables import count_on_device
from ..metrics.cityscapes.instance_ap import CityscapesInstanceAP
from ..metrics.cityscapes.region_tables import Regions
from .classes import ids_of
from .instances import InstanceEvaluation


class RegionInput(NamedTuple):
    """The ground truth on the device."""

    region_map: Integer[np.ndarray, "H W"]
    columns: Int32[np.ndarray, "C"]
    """Only its length is used: the number of columns of the table."""


class CountedInstances(NamedTuple):
    """Instances, with the pixels shared with each region in place of their masks."""

    scores: Float[AnyArray, "N"]
    labels: Int[AnyArray, "N"]
    table: Int32[AnyArray, "N C"]
    areas: Int32[AnyArray, "N"]


def region_input(regions: Regions, canvas: Size) -> RegionInput:
    """Returns what the device needs of an image's ground truth."""
    return RegionInput(regions.index_map(canvas), np.zeros(regions.num_columns, np.int32))


def count_instances(found: Instances, truth: RegionInput) -> CountedInstances:
    """Replaces masks by counts; runs on the device, as part of post-processing."""
    num_columns = len(truth.columns)
    counts = count_on_device(found.packed_masks, truth.region_map, num_columns=num_columns)
    table, areas = counts.table[found.masks], counts.areas[found.masks]
    return CountedInstances(found.scores, found.labels, table, areas)


def measure_counts(
    evaluation: InstanceEvaluation,
    index: int,
    truth: Regions,
    counted: CountedInstances,
    processor: ImageProcessor,
) -> CityscapesInstanceAP:
    """Returns the metric of one image's instances, whose masks were counted on the device."""
    scores, labels = np.asarray(counted.scores), np.asarray(counted.labels)
    order = processor.order(scores, labels, FOR_EVALUATION)
    metric = CityscapesInstanceAP()
    metric.add_table(
        truth,
        counted.table[order],
        counted.areas[order],
        ids_of(evaluation.labels)[labels[order]],
        scores[order],
        image=evaluation.dataset.images[index].name,
    )
    return metric
