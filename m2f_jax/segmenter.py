"""Segmenter: the whole path from an image to its segmentation, compiled once per size bucket."""

import collections
import functools
import os
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Int, UInt8

from m2f_jax import postprocess
from m2f_jax.batching import AHEAD, Pending, Reduce, batches
from m2f_jax.config import Task
from m2f_jax.model import Mask2Former
from m2f_jax.preprocess import ImageSource
from m2f_jax.processor import (
    FOR_EVALUATION,
    ImageProcessor,
    collect_map,
    collect_panoptic,
)
from m2f_jax.results import Segmentation
from m2f_jax.structures import ImageSize, Predictions, Size

IMAGES = "images"  # the axis of devices


@dataclass(frozen=True, eq=False)
class Prepared:
    """An image that was resized and padded on the host.

    Attributes:
        pixels: uint8 RGB [padded height, padded width, 3].
        size: what undoes the padding and the resizing.
        target: the height and width of the result.
        extra: arrays that go to the device with the image, for a `Reduce`.
    """

    pixels: np.ndarray
    size: ImageSize
    target: Size
    extra: Any = ()

    @property
    def canvas(self) -> Size:
        """The height and width of what is computed; the result is its upper left corner."""
        return postprocess.canvas_size(self.target)

    @property
    def bucket(self) -> Hashable:
        """Images of one bucket run through the same compiled programs, and can share a batch."""
        extra = tuple((x.shape, str(x.dtype)) for x in jax.tree.leaves(self.extra))
        return self.size.padded, self.canvas, extra


class Segmenter:
    """A model and its processor as one function of an image.

    Images are read, turned upright and resized on the host; all else happens on the device. The
    network is compiled once per padded size, post-processing once per task and output canvas
    (output sides rounded up to multiples of 128); `jax_compilation_cache_dir` keeps both between
    runs. Several devices take an image each, and do what one device would.
    """

    def __init__(
        self,
        model: Mask2Former,
        processor: ImageProcessor,
        devices: Sequence[Any] | None = None,
    ):
        """A segmenter on `devices`, by default on the first one of this process."""
        self.config = model.config
        self.dtype = model.dtype
        self.processor = processor
        self.devices = tuple(devices or jax.local_devices()[:1])
        mesh = Mesh(np.array(self.devices), (IMAGES,))
        self._one_each = NamedSharding(mesh, PartitionSpec(IMAGES))
        self._everywhere = NamedSharding(mesh, PartitionSpec())
        self.graph, state = nnx.split(model)
        # jax.jit takes plain arrays with the least overhead.
        self.parameters = jax.device_put(nnx.as_pure(state), self._everywhere)
        self._predict = self._per_device(
            functools.partial(predict, self.graph, processor.mean, processor.std)
        )
        self._programs: dict[tuple[Task, int, Reduce | None], Callable] = {}

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        dtype: str | jnp.dtype = "bfloat16",
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        devices: Sequence[Any] | None = None,
    ) -> "Segmenter":
        """A trained model with its processor; arguments as for `Mask2Former.from_pretrained`."""
        from m2f_jax.pretrained import load_checkpoint, load_model

        checkpoint = load_checkpoint(source, revision, token)
        return cls(load_model(checkpoint, dtype), checkpoint.processor, devices)

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
        prepared = self.prepare(image, target_size)
        [pending] = self.submit([prepared], task, top_k=top_k, threshold=threshold)
        return pending.result()

    def stream(
        self,
        images: Iterable[ImageSource],
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
    ) -> Iterator[Segmentation]:
        """The segmentations of many images in order, prepared while others are computed."""
        pending: collections.deque[Pending] = collections.deque()
        for batch in batches(map(self.prepare, images), len(self.devices), bucket_of):
            pending.extend(self.submit(batch, task, top_k=top_k, threshold=threshold))
            while len(pending) >= AHEAD * len(self.devices):
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()

    def prepare(self, image: ImageSource, target_size: Size | None = None) -> Prepared:
        """The host's part of the work; may run in a thread of its own."""
        pixels, size = self.processor.prepare(image)
        return Prepared(pixels, size, size.original if target_size is None else target_size)

    def submit(
        self,
        batch: Sequence[Prepared],
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
        reduce: Reduce | None = None,
    ) -> list[Pending]:
        """Starts the devices on up to one image each, and returns at once.

        Args:
            batch: images of one bucket, no more than there are devices.
            task: as when called, like the following.
            top_k: at most so many instances.
            threshold: the least score of an instance.
            reduce: what to make of each segmentation on its device, so that only this leaves it, as
                numpy arrays; give the same function each time, for it is compiled.
        """
        task = task or self.config.task
        if task not in ("instance", "panoptic", "semantic"):
            raise ValueError(f"task is instance, panoptic or semantic, not {task!r}")
        # Devices without an image of their own repeat the last one.
        filled = [batch[min(i, len(batch) - 1)] for i in range(len(self.devices))]
        stacked = self._spread(
            np.stack([image.pixels for image in filled]),
            np.array([image.size.resized for image in filled]),
        )
        predictions = self._predict(self.parameters, *stacked)
        logits_size: Size = predictions.mask_logits.shape[2:]
        way_of = self.processor.score_way if task == "semantic" else postprocess.upsampling
        ways = [way_of(logits_size, image.size, image.target) for image in filled]
        extras = [image.extra for image in filled]
        spread = [jax.tree.map(lambda *parts: np.stack(parts), *x) for x in (ways, extras)]
        limit = np.float32(0 if threshold is None else threshold)
        program = self._program(task, top_k, reduce)
        found = program((self._is_thing, limit), *predictions, *self._spread(*spread))
        if reduce is not None:
            return [Pending(functools.partial(_fetch, found, i)) for i in range(len(batch))]
        return [
            Pending(functools.partial(self._collect, task, found, i, image.target, threshold))
            for i, image in enumerate(batch)
        ]

    @property
    def _is_thing(self) -> np.ndarray:
        return self.processor.is_thing(self.config.num_classes)

    def _spread(self, *arrays: Any) -> list[Any]:
        """Arrays with an image per device."""
        return [jax.device_put(array, self._one_each) for array in arrays]

    def _per_device(self, function: Callable) -> Callable:
        """`function` of shared things and an image's arrays, with an image on each device."""

        def on_one_device(shared: Any, *arrays: Any) -> Any:
            result = function(shared, *jax.tree.map(lambda x: x[0], arrays))
            return jax.tree.map(lambda x: x[None], result)

        def spread(shared: Any, *arrays: Any) -> Any:
            return jax.shard_map(
                on_one_device,
                mesh=self._one_each.mesh,
                in_specs=(PartitionSpec(), *[PartitionSpec(IMAGES)] * len(arrays)),
                out_specs=PartitionSpec(IMAGES),
                check_vma=False,
            )(shared, *arrays)

        return jax.jit(spread)

    def _program(self, task: Task, top_k: int, reduce: Reduce | None) -> Callable:
        """The compiled post-processing of a task."""
        if (task, top_k, reduce) not in self._programs:

            def post_process(shared, class_logits, mask_logits, way, extra):
                logits = class_logits, mask_logits
                is_thing, limit = shared
                if task == "instance":
                    found = postprocess.instances(*logits, way, limit, top_k=top_k)
                elif task == "panoptic":
                    found = self.processor.compute_panoptic(*logits, way, is_thing)
                else:
                    found = self.processor.compute_semantic(*logits, way)
                return found if reduce is None else reduce(found, extra)

            self._programs[task, top_k, reduce] = self._per_device(post_process)
        return self._programs[task, top_k, reduce]

    def _collect(
        self, task: Task, found: Any, i: int, target: Size, threshold: float | None
    ) -> Segmentation:
        """Waits for the device that had image `i`, and fetches its result."""
        shard = _shard(found, i)
        if task == "instance":
            return self.processor.collect_instances(shard, target, threshold)
        if task == "panoptic":
            return collect_panoptic(shard, target, self._is_thing)
        return collect_map(shard, target)


def bucket_of(image: Prepared) -> Hashable:
    """The bucket of a prepared image."""
    return image.bucket


def _shard(found: Any, i: int) -> Any:
    """What the device that had image `i` made of it, on that device."""
    return jax.tree.map(lambda x: x.addressable_shards[i].data[0], found)


def _fetch(found: Any, i: int) -> Any:
    return jax.device_get(_shard(found, i))


def predict(
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
    values = pixels.astype(jnp.float32) - np.asarray(mean, np.float32)
    values = values / np.asarray(std, np.float32)
    values = jnp.where(inside[:, :, None], values, 0)
    class_logits, mask_logits = nnx.merge(graph, parameters)(values[None])
    return Predictions(class_logits[0], mask_logits[0])
