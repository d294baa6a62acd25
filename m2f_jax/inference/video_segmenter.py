"""VideoSegmenter: the whole path from the frames of a video to its instances."""

import functools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Int, UInt8

from m2f_jax.images import ImageSource
from m2f_jax.inference.prefetching import Pending
from m2f_jax.inference.processor import ImageProcessor, size_of_frames
from m2f_jax.inference.programs.network import normalized
from m2f_jax.inference.results import VideoInstanceSegmentation
from m2f_jax.modeling.video_mask2former import VideoMask2Former
from m2f_jax.structures import ImageSize, Predictions

TOP_K = 10  # instances of a video, as in the authors' code


@dataclass(frozen=True, eq=False)
class PreparedClip:
    """The frames of a clip, resized and padded, as uint8 RGB."""

    pixels: UInt8[np.ndarray, "T H W 3"]
    size: ImageSize

    @property
    def bucket(self) -> Hashable:
        """A key: clips of one bucket use the same compiled program."""
        return self.pixels.shape


class VideoSegmenter:
    """A video model and its processor as one function of the frames of a video.

    All frames go through the network at once, so memory grows in proportion to their number. The
    network is compiled for each number of frames and padded size.

    Attributes:
        config: the model's.
        dtype: of the network's computation.
        processor: the sizes that frames are resized to.
        batch_size: the number of videos that are computed at a time: 1.
        capacity: the number of clips that `submit` takes at a time: 1.
    """

    batch_size = capacity = 1

    def __init__(self, model: VideoMask2Former, processor: ImageProcessor, device: Any = None):
        """Puts the model on a device, by default the first one of this process."""
        self.config, self.dtype, self.processor = model.config, model.dtype, processor
        self.graph, state = nnx.split(model)
        device = device or jax.local_devices()[0]
        self.parameters = jax.device_put(nnx.as_pure(state), device)
        self._predict: Callable[..., Predictions] = jax.jit(
            functools.partial(predict_clip, self.graph, processor.mean, processor.std)
        )

    def __call__(
        self, frames: Sequence[ImageSource], *, top_k: int = TOP_K, threshold: float | None = None
    ) -> VideoInstanceSegmentation:
        """Returns the instances of a video.

        Args:
            frames: paths, PIL images or uint8 arrays [height, width, 3], of one size.
            top_k: the most instances to return.
            threshold: the least score; None for none, as in the authors' evaluation.

        Raises:
            ValueError: a frame can't be read, has another size than the first, or there is none.
            FileNotFoundError: the file of a frame is missing.
        """
        [pending] = self.submit([self.prepare(frames)], top_k=top_k, threshold=threshold)
        return pending.result()

    def prepare(self, frames: Sequence[ImageSource]) -> PreparedClip:
        """Reads and resizes the frames on the host; may run in a thread of its own.

        Raises:
            ValueError, FileNotFoundError: as when called.
        """
        prepared = [self.processor.prepare(frame) for frame in frames]
        if not prepared:
            raise ValueError("a video needs at least one frame")
        size = size_of_frames([size for _, size in prepared], frames)
        return PreparedClip(np.stack([pixels for pixels, _ in prepared]), size)

    def submit(
        self,
        batch: Sequence[PreparedClip],
        task: str | None = None,
        *,
        top_k: int = TOP_K,
        threshold: float | None = None,
    ) -> list[Pending]:
        """Starts the device on one clip, and returns a handle of its instances.

        Args:
            batch: the clip.
            task: "instance", the only one of videos.
            top_k: as when called, like the threshold.
            threshold: the least score.

        Raises:
            ValueError: it is another task.
        """
        if task not in (None, "instance"):
            raise ValueError(f"videos are segmented into instances; the task can't be {task!r}")
        [clip] = batch
        sizes = np.tile(clip.size.resized, (len(clip.pixels), 1))
        predictions = self._predict(self.parameters, clip.pixels, sizes)

        def result() -> VideoInstanceSegmentation:
            [found] = self.processor.post_process_video_instance_segmentation(
                predictions, [clip.size], top_k=top_k
            )
            return found if threshold is None else found.select(found.scores >= threshold)

        return [Pending(result)]


def predict_clip(
    graph: nnx.GraphDef,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    parameters: Any,
    pixels: UInt8[Array, "T H W 3"],
    sizes: Int[Array, "T 2"],
) -> Predictions:
    """Returns predictions for the padded frames of one clip."""
    return nnx.merge(graph, parameters)(normalized(mean, std, pixels, sizes)[None])
