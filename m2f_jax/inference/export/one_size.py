"""Segmenting with an exported model, whichever runtime computes it: one image size and one task."""

import functools
import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from m2f_jax.config import Task
from m2f_jax.images import ImageSource, read_image
from m2f_jax.inference.prefetching import Pending
from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segment,
    Segmentation,
)


class ExportedInput(NamedTuple):
    """An image for an exported model."""

    pixels: np.ndarray  # uint8 [H, W, 3]
    bucket: None = None  # all images are of one size


class OneSizeSegmenter:
    """An exported model as a function of an image, like a `Segmenter` for one size and task.

    Attributes:
        path: its file.
        header: its task, classes, image size and more.
    """

    @property
    def capacity(self) -> int:
        """The number of images that `submit` takes at a time."""
        return 1

    def __init__(self, path: str | os.PathLike, header: Any):
        self.path, self.header = path, header

    def start(self, batch: Sequence[ExportedInput], limit: np.float32) -> list[Mapping[str, Any]]:
        """Starts on up to `capacity` images, and returns the arrays of each one's result.

        Args:
            batch: the images.
            limit: the least score, for instances alone.
        """
        raise NotImplementedError

    def __call__(
        self, image: ImageSource, task: Task | None = None, *, threshold: float | None = None
    ) -> Segmentation:
        """Segments one image: a path, a PIL image or uint8 [H, W, 3].

        Args:
            image: the image, of the size that the model was exported for.
            task: the one that the model was exported for, if any.
            threshold: the least score of an instance: `FOR_EVALUATION` (None) or `FOR_DISPLAY`.

        Raises:
            ValueError: the image can't be read or is of another size, or the task is another one.
            FileNotFoundError: the image file is missing.
        """
        [pending] = self.submit([self.prepare(image)], task, threshold=threshold)
        return pending.result()

    def prepare(self, image: ImageSource) -> ExportedInput:
        """Reads an image on the host and checks its size.

        Raises:
            ValueError: the image can't be read or is of another size.
            FileNotFoundError: the image file is missing.
        """
        pixels = read_image(image)
        height, width, _ = pixels.shape
        if (height, width) != self.header.size:
            wanted = "{} x {}".format(*self.header.size)
            raise ValueError(
                f"the image is {height} x {width}, but {self.path} was exported for {wanted} "
                f"(height x width); resize it, or export the model with --size {height}x{width}"
            )
        return ExportedInput(pixels)

    def submit(
        self,
        batch: Sequence[ExportedInput],
        task: Task | None = None,
        *,
        threshold: float | None = None,
    ) -> list[Pending]:
        """Starts on up to `capacity` images, and returns a handle for each; as when called.

        Raises:
            ValueError: the task is another one than the model was exported for.
        """
        if task not in (None, self.header.task):
            raise ValueError(
                f"{self.path} was exported for the task {self.header.task}, not {task}; export the "
                f"model with --task {task}"
            )
        collect = {
            "instance": collect_instances,
            "panoptic": collect_panoptic,
            "semantic": collect_semantic,
        }[self.header.task]
        found = self.start(batch, np.float32(threshold or 0))
        return [Pending(functools.partial(collect, result)) for result in found]


def collect_instances(found: Mapping[str, Any]) -> InstanceSegmentation:
    """Fetches instances from the device; the valid rows come first in its table."""
    count = int(np.count_nonzero(found["valid"]))
    _, height, width = found["masks"].shape
    packed = np.asarray(jnp.packbits(found["masks"], axis=-1))
    return InstanceSegmentation(
        scores=np.asarray(found["scores"])[:count],
        labels=np.asarray(found["labels"])[:count],
        queries=np.asarray(found["queries"])[:count],
        size=(height, width),
        packed_masks=tuple(packed[:count]),
    )


def collect_panoptic(found: Mapping[str, Any]) -> PanopticSegmentation:
    """Fetches a panoptic map from the device; row i of its table is segment i + 1."""
    table = {key: np.asarray(value) for key, value in found.items()}
    segments = tuple(
        Segment(
            id=int(row) + 1,
            label=int(table["labels"][row]),
            is_thing=bool(table["is_thing"][row]),
            score=float(table["scores"][row]),
        )
        for row in np.flatnonzero(table["valid"])
    )
    return PanopticSegmentation(segment_map=table["segment_map"], segments=segments)


def collect_semantic(found: Mapping[str, Any]) -> np.ndarray:
    """Fetches class indices from the device, int32 [H, W]."""
    return np.asarray(found["class_map"])
