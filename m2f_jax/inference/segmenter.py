"""Segmenter: the whole path from an image to its segmentation, compiled once per range of sizes."""

import functools
import os
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Int

from m2f_jax.config import Task
from m2f_jax.default_dtype import default_dtype
from m2f_jax.images import ImageSource, read_image
from m2f_jax.inference.prefetching import Pending, Reduce, run_pipeline
from m2f_jax.inference.prepared import Prepared
from m2f_jax.inference.preprocess import pad
from m2f_jax.inference.processor import (
    FOR_EVALUATION,
    ImageProcessor,
    collect_map,
    collect_panoptic,
)
from m2f_jax.inference.programs.compiling import Program, compilers
from m2f_jax.inference.programs.devices import Devices, can_keep
from m2f_jax.inference.programs.network import network_program, runs_in_stages
from m2f_jax.inference.programs.segmentation import segmentation_program
from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segmentation,
)
from m2f_jax.inference.upsampling import canvas_size, plan_upsampling
from m2f_jax.modeling.model import Model
from m2f_jax.ops.pil_resize import filter_taps, resize_as_pil
from m2f_jax.sizes import Size


class StreamOptions(TypedDict, total=False):
    """The keyword arguments of `Segmenter.stream`, for type checkers."""

    top_k: int
    threshold: float | None


class CallOptions(StreamOptions, total=False):
    """The keyword arguments of a `Segmenter`'s call."""

    target_size: Size | None


class Segmenter:
    """A model and its processor as one function of an image.

    The host reads images and turns them upright; all else happens on the device. The network is
    compiled once per padded size; resizing once per canvas of the image (sides rounded up to
    multiples of 128); post-processing once per task and canvas of the result. All that an image
    needs is compiled at the same time, for which the network in float32 on a CPU is two programs,
    or three for small images. `jax_compilation_cache_dir` keeps programs between runs. Several
    devices give the same results as one.

    Attributes:
        config: the model's.
        dtype: of the network's computation.
        devices: where it runs.
        batch_size: how many images each device takes at a time.
    """

    def __init__(
        self,
        model: Model,
        processor: ImageProcessor,
        devices: Sequence[Any] | None = None,
        batch_size: int = 1,
        programs: Path | None = None,
    ):
        """Puts the model on `devices`, by default on the first one of this process.

        Args:
            model: the model. One with `jax.ShapeDtypeStruct`s for parameters can be compiled for,
                and takes them by `set_parameters`.
            processor: what happens before and after it.
            devices: where it runs.
            batch_size: how many images each device takes at a time.
            programs: a folder that keeps programs before XLA compiles them, so that the next run
                needn't trace them. It serves a single CPU and models whose parts are all of this
                package; programs of others are traced in every run.

        Raises:
            ValueError: `batch_size` is less than 1, or the model is one of videos.
        """
        if model.batch_axes != Model.batch_axes:
            raise ValueError(
                f"a {type(model).__name__} takes clips, not images; use m2f_jax.VideoSegmenter"
            )
        if batch_size < 1:
            raise ValueError(f"batch_size is 1 or more, not {batch_size}")
        self.batch_size = batch_size
        self.config = model.config
        self.dtype = model.dtype
        self.devices = tuple(devices or jax.local_devices()[:1])
        self._places = Devices(self.devices, programs if can_keep(model, self.devices) else None)
        self.graph, state = nnx.split(model)
        self._stages = runs_in_stages(model, self._places)
        # jax.jit takes plain arrays with the least overhead.
        self.parameters = self._places.share(nnx.as_pure(state))
        self._beginning = threading.Lock()
        self._resize = self._places.program(
            "resize", lambda _, *images: jax.vmap(resize_as_pil)(*images), about=""
        )
        self.processor = processor

    @property
    def processor(self) -> ImageProcessor:
        """The sizes that images are resized to, the thresholds and more.

        Setting another one takes effect for images that are prepared from then on, and compiles the
        programs anew, since statistics and thresholds are constants in them. Images that were
        submitted before keep the old one.
        """
        return self._processor

    @processor.setter
    def processor(self, processor: ImageProcessor):
        self._processor = processor
        about = repr((self.config, self.dtype.name))
        self._predict = network_program(
            self._places, self.graph, processor, about, stages=self._stages
        )
        self._programs: dict[tuple[Task, int, Reduce | None], Program] = {}
        self._begun: set[tuple[Program, Hashable]] = set()  # to be compiled, for these buckets

    def set_parameters(self, model: Model):
        """Takes over the parameters of another model, keeping all compiled programs.

        Raises:
            ValueError: the model has another configuration or dtype.
        """
        parameters = nnx.as_pure(nnx.state(model))
        ours, theirs = (
            jax.tree.map(lambda x: (x.shape, x.dtype), tree)
            for tree in (self.parameters, parameters)
        )
        same = (model.config, model.dtype) == (self.config, self.dtype)
        if not same or ours != theirs:
            raise ValueError("the model has another architecture; make a new Segmenter of it")
        self.parameters = self._places.share(parameters)

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        dtype: str | jnp.dtype | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        devices: Sequence[Any] | None = None,
        batch_size: int = 1,
    ) -> "Segmenter":
        """Returns a segmenter of what `m2f_jax.load` opens; arguments and errors as there.

        By default it computes as the commands do: in float32 on a CPU, else in bfloat16.
        """
        from m2f_jax.pretrained import load

        opened = load(source, dtype or default_dtype(), revision=revision, token=token)
        return cls(opened.model, opened.processor, devices, batch_size)

    @overload
    def __call__(
        self, image: ImageSource, task: Literal["instance"], **options: Unpack[CallOptions]
    ) -> InstanceSegmentation: ...
    @overload
    def __call__(
        self, image: ImageSource, task: Literal["panoptic"], **options: Unpack[CallOptions]
    ) -> PanopticSegmentation: ...
    @overload
    def __call__(
        self, image: ImageSource, task: Literal["semantic"], **options: Unpack[CallOptions]
    ) -> Int[np.ndarray, "height width"]: ...
    @overload
    def __call__(
        self, image: ImageSource, task: Task | None = None, **options: Unpack[CallOptions]
    ) -> Segmentation: ...
    def __call__(
        self,
        image: ImageSource,
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
        target_size: Size | None = None,
    ) -> Segmentation:
        """Segments one image: a path, a PIL image or uint8 [height, width, 3].

        Args:
            image: the image.
            task: "instance", "panoptic" or "semantic"; by default what the model was trained for.
            top_k: the most instances to return.
            threshold: the least score of an instance: `FOR_EVALUATION` (None) or `FOR_DISPLAY`.
            target_size: (height, width) of the result; by default the image's.

        Returns:
            An `InstanceSegmentation`, a `PanopticSegmentation`, or class indices [height, width].

        Raises:
            ValueError: the image can't be read, or the task is unknown.
            FileNotFoundError: the image file is missing.
        """
        prepared = self.prepare(image, target_size)
        [pending] = self.submit([prepared], task, top_k=top_k, threshold=threshold)
        return pending.result()

    @overload
    def stream(
        self,
        images: Iterable[ImageSource],
        task: Literal["instance"],
        **options: Unpack[StreamOptions],
    ) -> Iterator[InstanceSegmentation]: ...
    @overload
    def stream(
        self,
        images: Iterable[ImageSource],
        task: Literal["panoptic"],
        **options: Unpack[StreamOptions],
    ) -> Iterator[PanopticSegmentation]: ...
    @overload
    def stream(
        self,
        images: Iterable[ImageSource],
        task: Literal["semantic"],
        **options: Unpack[StreamOptions],
    ) -> Iterator[Int[np.ndarray, "height width"]]: ...
    @overload
    def stream(
        self,
        images: Iterable[ImageSource],
        task: Task | None = None,
        **options: Unpack[StreamOptions],
    ) -> Iterator[Segmentation]: ...
    def stream(
        self,
        images: Iterable[ImageSource],
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
    ) -> Iterator[Segmentation]:
        """Yields the segmentations of many images in order; arguments as when called.

        Threads read images ahead of the devices. Neighbours of the same sizes share a batch, up to
        `batch_size` for each device, and the devices work on one batch while the one before it is
        fetched.

        Raises:
            ValueError: an image can't be read, or the task is unknown.
            FileNotFoundError: an image file is missing.
        """
        outcomes = run_pipeline(
            self,
            task,
            images,
            lambda image: (self.prepare(image), None),
            lambda _image, _none, segmentation: segmentation,
            top_k=top_k,
            threshold=threshold,
        )
        for _, outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            yield outcome

    def prepare(self, image: ImageSource, target_size: Size | None = None) -> Prepared:
        """Reads an image on the host; may run in a thread of its own.

        Raises:
            ValueError: the image can't be read, or is too large.
            FileNotFoundError: the image file is missing.
        """
        pixels = read_image(image)
        size = self.processor.size_of((pixels.shape[0], pixels.shape[1]))
        rows, columns = map(filter_taps, size.original, size.resized, size.padded)
        height, width = size.original if target_size is None else target_size
        return Prepared(
            pad(pixels, canvas_size(size.original)),
            (rows, columns),
            size,
            (int(height), int(width)),
        )

    @property
    def capacity(self) -> int:
        """The number of images that `submit` takes at a time."""
        return len(self.devices) * self.batch_size

    def submit(
        self,
        batch: Sequence[Prepared],
        task: Task | None = None,
        *,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
        reduce: Reduce | None = None,
    ) -> list[Pending]:
        """Starts the devices on up to `capacity` images, and returns at once.

        Args:
            batch: images of one bucket.
            task: as when called, like the following.
            top_k: the most instances to return.
            threshold: the least score of an instance.
            reduce: a function of each segmentation that runs on its device, so that only what it
                returns is fetched, as numpy arrays. It is compiled: give the same one each time.

        Returns:
            A handle for each image, which waits for its segmentation.
        """
        task = self._task(task)
        # The last image is repeated in the places that are left.
        filled = [batch[min(i, len(batch) - 1)] for i in range(self.capacity)]
        program = self._program(task, top_k, reduce)
        self._begin(program, filled, task)
        found = self._run(_call, program, filled, task, threshold)
        if reduce is not None:
            return [Pending(functools.partial(self._fetch, found, i)) for i in range(len(batch))]
        collect = functools.partial(self._collect, self.processor, task, found)
        return [
            Pending(functools.partial(collect, i, image.target, threshold))
            for i, image in enumerate(batch)
        ]

    def compile_ahead(
        self, read: Callable[[], Prepared], task: Task | None = None, *, top_k: int = 100
    ):
        """Begins to compile all programs that an image needs, and returns at once.

        It takes no parameters, so that they can be read meanwhile. What goes wrong, with the image
        or with a program, is an error of `prepare` and `submit`, which try again.

        Args:
            read: returns the image, from `prepare`; it runs in a thread.
            task: as when called.
            top_k: as when called.
        """
        task = self._task(task)
        program = self._program(task, top_k, None)
        compilers.submit(lambda: self._begin(program, [read()] * self.capacity, task))

    def _task(self, task: Task | None) -> Task:
        """Returns the task that is asked for, by default the model's."""
        task = task or self.config.task
        if task not in ("instance", "panoptic", "semantic"):
            raise ValueError(f"task is instance, panoptic or semantic, not {task!r}")
        return task

    def _begin(self, program: Program, images: Sequence[Prepared], task: Task):
        """Begins to compile what images of their bucket need, the first time."""
        with self._beginning:
            if (key := (program, images[0].bucket)) not in self._begun:
                self._run(_ahead, program, images, task, None)
                self._begun.add(key)

    def _run(
        self,
        run: Callable[..., Any],
        program: Program,
        images: Sequence[Prepared],
        task: Task,
        threshold: float | None,
    ) -> Any:
        """Takes images through resizing, the network and post-processing, in turn.

        Args:
            run: `_call`, or `_ahead`, which has the programs compiled and returns shapes.
            program: the post-processing.
            images: as many as `capacity`.
            task: the program's.
            threshold: as when called.
        """
        to_resize = _stacked([(image.pixels, *image.taps) for image in images])
        pixels = run(self._resize, (), *self._places.spread(*to_resize))
        [sizes] = self._places.spread(np.array([image.size.resized for image in images]))
        predictions = run(self._predict, self.parameters, pixels, sizes)
        logits_size: Size = predictions.mask_logits.shape[2:]
        plan_of = self.processor.score_plan if task == "semantic" else plan_upsampling
        plans = [plan_of(logits_size, image.size, image.target) for image in images]
        extras = [image.extra for image in images]
        spread = self._places.spread(*(_stacked(x) for x in (plans, extras)))
        limit = np.float32(0 if threshold is None else threshold)
        shared = self.processor.is_thing(self.config.num_classes), limit
        return run(program, shared, *predictions, *spread)

    def _program(self, task: Task, top_k: int, reduce: Reduce | None) -> Program:
        """Returns the post-processing of a task."""
        if (key := (task, top_k, reduce)) not in self._programs:
            self._programs[key] = segmentation_program(self._places, self.processor, *key)
        return self._programs[key]

    def _fetch(self, found: Any, i: int) -> Any:
        return jax.device_get(self._places.share_of(found, i, self.batch_size))

    def _collect(
        self,
        processor: ImageProcessor,
        task: Task,
        found: Any,
        i: int,
        target: Size,
        threshold: float | None,
    ) -> Segmentation:
        """Waits for the device that had image `i`, and fetches its result."""
        shard = self._places.share_of(found, i, self.batch_size)
        if task == "instance":
            return processor.collect_instances(shard, target, threshold)
        if task == "panoptic":
            return collect_panoptic(shard, target, processor.is_thing(self.config.num_classes))
        return collect_map(shard, target)


def _call(program: Program, *arguments: Any) -> Any:
    return program(*arguments)


def _ahead(program: Program, *arguments: Any) -> Any:
    return program.ahead(*arguments)


def _stacked(images: Sequence[Any]) -> Any:
    """Stacks trees of arrays into one tree with an axis of images."""
    return jax.tree.map(lambda *arrays: np.stack(arrays), *images)
