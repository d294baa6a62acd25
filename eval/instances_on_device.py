"""Cityscapes instance AP without the masks leaving the device: only tables of counts come back."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Int32, Integer

from m2f_jax.config import Task
from m2f_jax.datasets.cityscapes import CityscapesImage
from m2f_jax.inference.postprocess import AnyArray
from m2f_jax.inference.postprocess import Instances as Found
from m2f_jax.inference.processor import FOR_EVALUATION, ImageProcessor
from m2f_jax.labels import Label
from m2f_jax.structures import Size

from .cityscapes import Instances
from .metrics.cityscapes_ap import CityscapesInstanceAP
from .metrics.region_tables import Regions, count_on_device


class RegionInput(NamedTuple):
    """The ground truth on the device."""

    region_map: Integer[np.ndarray, "H W"]
    columns: Int32[np.ndarray, "C"]
    """Only its length says something: how many columns the table gets."""


class CountedInstances(NamedTuple):
    """Instances by what their masks share with the ground truth."""

    scores: Float[AnyArray, "N"]
    labels: Int[AnyArray, "N"]
    table: Int32[AnyArray, "N C"]
    areas: Int32[AnyArray, "N"]


def count_instances(found: Found, truth: RegionInput) -> CountedInstances:
    """Replaces masks by counts; runs on the device, as part of post-processing."""
    num_columns = len(truth.columns)
    counts = count_on_device(found.packed_masks, truth.region_map, num_columns=num_columns)
    return CountedInstances(found.scores, found.labels, counts.table, counts.areas)


@dataclass(frozen=True)
class InstancesOnDevice:
    """Instance AP as `Instances` measures it, to the bit, with the masks counted on the device."""

    task: ClassVar[Task] = "instance"
    labels: tuple[Label, ...]
    processor: ImageProcessor

    read = Instances.read
    empty = Instances.empty
    load = Instances.load
    reduce = staticmethod(count_instances)

    def extra(self, truth: Regions, canvas: Size) -> RegionInput:
        """What the device needs of the ground truth."""
        return RegionInput(truth.index_map(canvas), np.zeros(truth.num_columns, np.int32))

    def measure(
        self, item: CityscapesImage, truth: Regions, counted: CountedInstances
    ) -> CityscapesInstanceAP:
        """The table of one image."""
        order = self.processor.order(
            np.asarray(counted.scores), np.asarray(counted.labels), FOR_EVALUATION
        )
        ids = np.array([label.id for label in self.labels])[counted.labels[order]]
        metric = CityscapesInstanceAP()
        metric.add_table(
            truth,
            counted.table[order],
            counted.areas[order],
            ids,
            counted.scores[order],
            image=item.name,
        )
        return metric
