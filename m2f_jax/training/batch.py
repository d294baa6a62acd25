"""The batch of a training step, packed on the host and unpacked on the device.

A hundred masks of 1024 x 1024 are 100 MB per image. A map of regions and a table of the regions of
each segment are 2 MB, from which the device makes the masks.

Axes: B images or clips, T frames of a clip, M segments, R regions.
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int32, UInt8, UInt16

from m2f_jax.datasets.examples import Example
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.structures import Targets

OVERLAPS = 1024
"""Regions of an image beyond one per segment and region 0: places where segments overlap."""


class TrainBatch(NamedTuple):
    """Images and their segments, of the same shapes in every batch; numpy, or on the device.

    In clips, regions are numbered across all frames, and a segment has regions in every frame that
    shows it.
    """

    pixel_values: UInt8[np.ndarray | Array, "B *T H W 3"]  # RGB, not normalised
    regions: UInt16[np.ndarray | Array, "B *T H W"]  # a number below R; 0 is part of no segment
    members: Bool[np.ndarray | Array, "B M R"]  # which regions make up a segment
    labels: Int32[np.ndarray | Array, "B M"]  # class index; 0 where there is no segment
    valid: Bool[np.ndarray | Array, "B M"]  # where there is a segment
    left_out: Int32[np.ndarray | Array, "B"]  # segments of the image beyond M


def unpack(
    batch: TrainBatch,
    mean: tuple[float, ...] = ImageProcessor.mean,
    std: tuple[float, ...] = ImageProcessor.std,
) -> tuple[Float[Array, "B *T H W 3"], Targets]:
    """Returns normalised images or clips in float32 and the masks of their segments.

    Args:
        batch: uint8 images and regions.
        mean: the mean of each channel, in RGB values of 0 to 255.
        std: the standard deviation of each channel.
    """
    values = jnp.asarray(batch.pixel_values).astype(jnp.float32)
    values = (values - jnp.asarray(mean, jnp.float32)) / jnp.asarray(std, jnp.float32)
    regions = jnp.asarray(batch.regions).astype(jnp.int32)
    masks = jax.vmap(lambda members, regions: members[:, regions])(
        jnp.asarray(batch.members), regions
    )
    return values, Targets(jnp.asarray(batch.labels), masks, jnp.asarray(batch.valid))


def pack(example: Example, max_segments: int, keep_empty: bool) -> TrainBatch:
    """Packs an example as a batch without its first axis.

    Args:
        example: an image of the final size, and its segments.
        max_segments: M. Of more segments, the largest are kept, in their order.
        keep_empty: whether segments that the crop left without a pixel are kept; those that never
            had one aren't.
    """
    regions, members, labels = example.segments
    pixels = np.bincount(regions.ravel(), minlength=members.shape[1])
    areas = members @ pixels
    found = np.flatnonzero(example.segments.visible if keep_empty else areas)
    kept = np.sort(found[np.argsort(-areas[found], kind="stable")[:max_segments]])

    num_regions = max_segments + 1 + OVERLAPS
    visible = np.flatnonzero(members[kept].any(axis=0) & (pixels > 0))
    visible = np.sort(visible[np.argsort(-pixels[visible], kind="stable")[: num_regions - 1]])
    table = np.zeros(members.shape[1], np.uint16)
    table[visible] = np.arange(1, len(visible) + 1)

    packed = TrainBatch(
        pixel_values=np.ascontiguousarray(example.image),
        regions=table[regions],
        members=np.zeros((max_segments, num_regions), bool),
        labels=np.zeros(max_segments, np.int32),
        valid=np.arange(max_segments) < len(kept),
        left_out=np.array(len(found) - len(kept), np.int32),
    )
    packed.members[: len(kept), 1 : len(visible) + 1] = members[np.ix_(kept, visible)]
    packed.labels[: len(kept)] = labels[kept]
    return packed


def stack(examples: Sequence[TrainBatch]) -> TrainBatch:
    """Stacks packed examples into a batch."""
    return TrainBatch(*map(np.stack, zip(*examples, strict=True)))
