"""Segmenter: the whole path from an image to its segmentation, compiled once per size bucket."""

import collections
import functools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, UInt8

from m2f_jax import postprocess
from m2f_jax.config import Task
from m2f_jax.model import Mask2Former
from m2f_jax.preprocess import ImageSource
from m2f_jax.processor import (
    FOR_EVALUATION,
    ImageProcessor,
    collect_map,
    collect_panoptic,
)
from m2f_jax.results import InstanceSegmentation, PanopticSegmentation
from m2f_jax.structures import Predictions, Size

Segmentation = InstanceSegmentation | PanopticSegmentation | Int[np.ndarray, "height width"]

AHEAD = 2  # images that `stream` has on the device at a time


@dataclass(frozen=True)
class Pending:
    """A segmentation that the device is working on."""

    result: Callable[[], Segmentation]
    """Waits for the device and returns the segmentation."""


class Segmenter:
    """A model and its processor as one function of an image.

    Images are read, turned upright and resized on the host; all else happens on the device. The
    network is compiled once per padded size, post-processing once per task and output canvas
    (output sides rounded up to multiples of 128); `jax_compilation_cache_dir` keeps both between
    runs.
    """

    def __init__(self, model: Mask2Former, processor: ImageProcessor):
        self.config = model.config
        self.processor = processor
        graph, state = nnx.split(model)
        self.parameters = nnx.as_pure(state)  # jax.jit takes plain arrays with the least overhead
        self._predict = jax.jit(functools.partial(_predict, graph, processor.mean, processor.std))

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        dtype: str | jnp.dtype = "bfloat16",
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> "Segmenter":
        """A trained model with its processor; arguments as for `Mask2Former.from_pretrained`."""
        from m2f_jax.pretrained import load_checkpoint, load_model

        checkpoint = load_checkpoint(source, revision, token)
        return cls(load_model(checkpoint, dtype), checkpoint.processor)

    def __call__(
        self,
        image: ImageSource,
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
        target_size: Size | None = None,
    ) -> Segmentation:
        """The segmentation of one image: a path, a PIL image or uint8 [height, width, 3].

        Args:
            image: the image.
            task: "instance", "panoptic" or "semantic"; by default what the model was trained for.
            top_k: at most so many instances.
            threshold: the least score of an instance: `FOR_EVALUATION` (None) or `FOR_DISPLAY`.
            target_size: (height, width) of the result; by default the image's.

        Raises:
            ValueError: the image can't be read, or the task is unknown.
            FileNotFoundError: the image file is missing.
        """
        return self.submit(
            image, task, top_k=top_k, threshold=threshold, target_size=target_size
        ).result()

    def stream(
        self,
        images: Iterable[ImageSource],
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
    ) -> Iterator[Segmentation]:
        """The segmentations of many images in order; the next is prepared while one is computed."""
        pending: collections.deque[Pending] = collections.deque()
        for image in images:
            pending.append(self.submit(image, task, top_k=top_k, threshold=threshold))
            if len(pending) == AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def submit(
        self,
        image: ImageSource,
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
        target_size: Size | None = None,
    ) -> Pending:
        """Starts the work and returns at once; arguments as when called."""
        task = task or self.config.task
        processor = self.processor
        pixels, size = processor.prepare(image)
        target = size.original if target_size is None else target_size
        predictions = self._predict(self.parameters, pixels, np.array(size.resized))
        class_logits, mask_logits = predictions
        logits_size: Size = mask_logits.shape[1:]

        if task == "instance":
            limit = jnp.float32(0 if threshold is None else threshold)
            way = postprocess.upsampling(logits_size, size, target)
            found = postprocess.instances(class_logits, mask_logits, way, limit, top_k=top_k)
            return Pending(lambda: processor.collect_instances(found, target, threshold))
        if task == "panoptic":
            is_thing = processor.is_thing(self.config.num_classes)
            way = postprocess.upsampling(logits_size, size, target)
            segments = processor.compute_panoptic(class_logits, mask_logits, way, is_thing)
            return Pending(lambda: collect_panoptic(segments, target, is_thing))
        if task == "semantic":
            canvas = processor.compute_semantic(class_logits, mask_logits, size, target)
            return Pending(lambda: collect_map(canvas, target))
        raise ValueError(f"task is instance, panoptic or semantic, not {task!r}")


def _predict(
    graph: nnx.GraphDef,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    parameters: Any,
    pixels: UInt8[Array, "H W 3"],
    size: Int[Array, "2"],
) -> Predictions:
    """The predictions for one padded image of which the top left `size` is the image."""
    inside = (jnp.arange(pixels.shape[0])[:, None] < size[0]) & (
        jnp.arange(pixels.shape[1]) < size[1]
    )
    values = (pixels.astype(jnp.float32) - np.asarray(mean, np.float32)) / np.asarray(
        std, np.float32
    )
    values = jnp.where(inside[:, :, None], values, 0)
    class_logits, mask_logits = nnx.merge(graph, parameters)(values[None])
    return Predictions(class_logits[0], mask_logits[0])
