"""ImageProcessor: prepares images and post-processes predictions as the authors' code does."""

import dataclasses
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from PIL import Image

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.config import MODEL_TYPE, MaskFormerConfig, ModelConfig
from m2f_jax.files import read_json, write_json
from m2f_jax.images import ImageSource, read_image
from m2f_jax.inference import postprocess
from m2f_jax.inference.preprocess import (
    check_sides,
    normalize,
    pad,
    padded_size,
    resize,
    resized_size,
)
from m2f_jax.inference.results import (
    InstanceSegmentation,
    PanopticSegmentation,
    Segment,
    VideoInstanceSegmentation,
)
from m2f_jax.inference.upsampling import (
    ScoreUpsampling,
    Upsampling,
    plan_score_upsampling,
    plan_upsampling,
)
from m2f_jax.plain import from_plain
from m2f_jax.presets import nearest_preset
from m2f_jax.sizes import Size
from m2f_jax.structures import Batch, ImageSize, Predictions

FOR_EVALUATION: float | None = None
"""The score threshold of the authors' evaluation: none, so that the best `top_k` all count."""

FOR_DISPLAY = 0.5
"""A score threshold for pictures: instances that are more likely right than wrong."""

PROCESSOR_FILE = "preprocessor_config.json"


@dataclass(frozen=True, kw_only=True)
class ImageProcessor:
    """The settings of preprocessing and post-processing, and the functions that do both.

    Attributes:
        shortest_edge: pixels that the shorter side is resized to; None keeps the image's size, up
            to `longest_edge`.
        longest_edge: the most pixels that the longer side may have after that; None for no limit.
        size_divisor: padding makes both sides multiples of this.
        mean: subtracted from RGB values of 0 to 255.
        std: what RGB values are divided by after that.
        thing_classes: class indices of things; None says that all are.
        object_mask_threshold: the least score of a query in a panoptic map.
        overlap_threshold: the least fraction of its mask that a panoptic segment must win.
        segments_inside_masks: a panoptic segment holds only pixels inside of its query's mask, as
            in Mask2Former, instead of all that the query wins, as in MaskFormer.
        resize_scores: compute semantic scores at the padded size and resize them, as the authors do
            for models trained for nothing else, instead of resizing mask logits.
    """

    shortest_edge: Annotated[int | None, Between(1, 65_536)] = None
    longest_edge: Annotated[int | None, Between(1, 65_536)] = None
    size_divisor: Annotated[int, Between(1, 4096)] = 32
    mean: Annotated[tuple[float, ...], Between(-1e6, 1e6)] = (123.675, 116.28, 103.53)
    std: Annotated[tuple[float, ...], Between(1e-6, 1e6)] = (58.395, 57.12, 57.375)
    thing_classes: Annotated[tuple[int, ...] | None, Between(0)] = None
    object_mask_threshold: Annotated[float, Between(0, 1)] = 0.8
    overlap_threshold: Annotated[float, Between(0, 1)] = 0.8
    segments_inside_masks: bool = True
    resize_scores: bool = False

    def __post_init__(self):
        check_bounds(self)
        for name in ("mean", "std"):
            if len(values := getattr(self, name)) != 3:
                raise ValueError(f"ImageProcessor: {name} has one number per color, not {values}")

    @classmethod
    def for_model(cls, config: ModelConfig) -> "ImageProcessor":
        """Returns the authors' test settings for a model like this; else images keep their size.

        The settings are those of the published model of the same classes that is most alike.
        """
        own = cls(
            thing_classes=config.thing_classes,
            segments_inside_masks=not isinstance(config, MaskFormerConfig),
            resize_scores=config.task == "semantic",
        )
        preset = nearest_preset(config)
        if preset is None:
            return own
        return dataclasses.replace(
            own,
            shortest_edge=preset.shortest_edge,
            longest_edge=preset.longest_edge,
            size_divisor=preset.size_divisor,
            object_mask_threshold=preset.object_mask_threshold,
        )

    @classmethod
    def from_pretrained(
        cls,
        source: str | os.PathLike,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
    ) -> "ImageProcessor":
        """Returns the processor of `m2f_jax.load`; arguments and errors as there."""
        from m2f_jax.pretrained import load

        return load(source, revision=revision, token=token).processor

    def save_pretrained(self, folder: str | os.PathLike):
        """Writes preprocessor_config.json into a folder, which is made if it isn't there."""
        Path(folder).mkdir(parents=True, exist_ok=True)
        values = {"processor_type": MODEL_TYPE, **dataclasses.asdict(self)}
        write_json(Path(folder, PROCESSOR_FILE), values)

    @classmethod
    def load(cls, path: str | os.PathLike) -> "ImageProcessor":
        """Reads what `save_pretrained` wrote.

        Raises:
            ValueError: the file isn't JSON, or a field is unknown or of a wrong type.
        """
        values = read_json(path)
        if not isinstance(values, dict):
            raise ValueError(f"{path} needs an object, not {type(values).__name__}")
        values.pop("processor_type", None)
        return from_plain(cls, values, str(path))

    def __call__(self, images: ImageSource | Iterable[ImageSource]) -> Batch:
        """Returns one image or several as a batch, padded to the largest of them.

        The network sees the padding, as in the authors' code: an image may be segmented a little
        differently beside a larger one. For evaluation, take one at a time, or images of one size.

        Raises:
            ValueError: an image can't be read (the message names it), or there is none.
            FileNotFoundError: an image file is missing.
        """
        if isinstance(images, str | os.PathLike | Image.Image | np.ndarray):
            images = [images]
        prepared = [self.prepare(image) for image in images]
        if not prepared:
            raise ValueError("ImageProcessor needs at least one image")
        padded = tuple(int(side) for side in np.max([size.padded for _, size in prepared], axis=0))
        pixel_values = np.zeros((len(prepared), *padded, 3), np.float32)
        for row, (image, size) in zip(pixel_values, prepared, strict=True):
            height, width = size.resized
            row[:height, :width] = normalize(image[:height, :width], self.mean, self.std)
        sizes = tuple(dataclasses.replace(size, padded=padded) for _, size in prepared)
        return Batch(pixel_values, sizes)

    def video_batch(self, frames: Iterable[ImageSource]) -> Batch:
        """Returns the frames of one video as a batch of one clip, [1, T, H, W, 3].

        Raises:
            ValueError: as when called, or the frames aren't of one size.
            FileNotFoundError: the file of a frame is missing.
        """
        frames = list(frames)
        pixel_values, sizes = self(frames)
        return Batch(pixel_values[None], (size_of_frames(sizes, frames),))

    def prepare(self, image: ImageSource) -> tuple[np.ndarray, ImageSize]:
        """Returns an image resized and padded: uint8 RGB [padded height, padded width, 3]."""
        pixels = read_image(image)
        size = self.size_of((pixels.shape[0], pixels.shape[1]))
        return pad(resize(pixels, size.resized), size.padded), size

    def size_of(self, original: Size) -> ImageSize:
        """Returns what an image of this height and width is resized and padded to.

        Raises:
            ValueError: a side is longer than `LONGEST_SIDE`, or the image would be resized to more
                than `images.max_pixels()` pixels.
        """
        resized = resized_size(original, self.shortest_edge, self.longest_edge)
        size = ImageSize(padded_size(resized, self.size_divisor), resized, original)
        check_sides(size)
        return size

    def post_process_instance_segmentation(
        self,
        predictions: Predictions,
        sizes: Sequence[ImageSize],
        target_sizes: Sequence[Size] | None = None,
        top_k: int = 100,
        threshold: float | None = FOR_EVALUATION,
    ) -> list[InstanceSegmentation]:
        """Returns each image's best `top_k` pairs of query and class, whose masks may overlap.

        A query may appear with several classes, and a mask may be empty, as in the authors' code.
        With stuff classes, only things of the `top_k` remain.

        Args:
            predictions: the model's, for the whole batch.
            sizes: the batch's sizes.
            target_sizes: (height, width) of each result; the original sizes by default.
            top_k: the most instances to return.
            threshold: the least score; `FOR_EVALUATION` (None) or `FOR_DISPLAY` (0.5).

        Raises:
            ValueError: the predictions are those of a video model, or there aren't as many sizes.
        """
        limit = jnp.float32(0 if threshold is None else threshold)
        results = []
        for classes, masks, size, target in self._each(predictions, sizes, target_sizes):
            plan = plan_upsampling(masks.shape[1:], size, target)
            found = postprocess.instances(classes, masks, plan, limit, top_k=top_k)
            results.append(self.collect_instances(found, target, threshold))
        return results

    def post_process_video_instance_segmentation(
        self,
        predictions: Predictions,
        sizes: Sequence[ImageSize],
        target_sizes: Sequence[Size] | None = None,
        top_k: int = 10,
    ) -> list[VideoInstanceSegmentation]:
        """Returns each video's best `top_k` pairs of query and class, whose masks may overlap.

        As in the authors' code, the score is the probability of the class alone, there is no least
        score, a query may appear with several classes, and a mask may be empty. Masks are made on
        the device and fetched a frame at a time.

        Args:
            predictions: a video model's, for the whole batch.
            sizes: the batch's sizes, one per video.
            target_sizes: (height, width) of each result; the original sizes by default.
            top_k: the most instances of a video.

        Raises:
            ValueError: the predictions are those of a model of images, or there aren't as many
                sizes.
        """
        mask_logits = predictions.mask_logits
        if mask_logits.ndim != 5:
            raise ValueError(
                f"mask_logits has shape {mask_logits.shape}, those of images; a video model's are "
                "[videos, queries, frames, height, width]"
            )
        results = []
        for video, target in enumerate(_targets(predictions, sizes, target_sizes)):
            plan = plan_upsampling(mask_logits.shape[3:], sizes[video], target)
            pairs = postprocess.best_pairs(predictions.class_logits[video], top_k=top_k)
            scores, labels, queries = jax.device_get(pairs)
            order = self.order(scores, labels, None)
            frames = [
                postprocess.frame_masks(mask_logits, video, frame, queries, plan)
                for frame in range(mask_logits.shape[2])
            ]
            height, width = target
            packed = np.empty((len(order), len(frames), height, -(-width // 8)), np.uint8)
            for frame, masks in enumerate(frames):
                packed[:, frame] = np.asarray(masks)[order, :height, : packed.shape[-1]]
            results.append(
                VideoInstanceSegmentation(
                    scores=scores[order],
                    labels=labels[order],
                    queries=queries[order],
                    size=target,
                    packed_masks=tuple(packed),
                )
            )
        return results

    def collect_instances(
        self, found: postprocess.Instances, target: Size, threshold: float | None
    ) -> InstanceSegmentation:
        """Fetches instances from the device, filtered, sorted by score and without the canvas."""
        scores, labels, queries, masks = jax.device_get(
            (found.scores, found.labels, found.queries, found.masks)
        )
        order = self.order(scores, labels, threshold)
        needed = int(masks[order].max(initial=0)) + 1
        # A slice of each length is a compiled program, so lengths are powers of two. It is copied,
        # since on a CPU a view would keep all masks in memory.
        packed = np.array(found.packed_masks[: 1 << (needed - 1).bit_length()])
        packed.flags.writeable = False  # instances of one query share a mask
        height, width = target
        return InstanceSegmentation(
            scores=scores[order],
            labels=labels[order],
            queries=queries[order],
            size=target,
            packed_masks=tuple(packed[i, :height, : -(-width // 8)] for i in masks[order]),
        )

    def order(
        self, scores: Float[np.ndarray, "N"], labels: Int[np.ndarray, "N"], threshold: float | None
    ) -> Int[np.ndarray, "kept"]:
        """Returns the indices of the things that reach the threshold, best first."""
        keep = np.ones(len(scores), bool) if threshold is None else scores >= threshold
        if self.thing_classes is not None:
            keep &= np.isin(labels, self.thing_classes)
        order = np.argsort(-scores, kind="stable")
        return order[keep[order]]

    def post_process_panoptic_segmentation(
        self,
        predictions: Predictions,
        sizes: Sequence[ImageSize],
        target_sizes: Sequence[Size] | None = None,
        thing_classes: Sequence[int] | None = None,
    ) -> list[PanopticSegmentation]:
        """Returns each image's panoptic map, by the authors' two thresholds.

        Args:
            predictions: the model's, for the whole batch.
            sizes: the batch's sizes.
            target_sizes: (height, width) of each result; the original sizes by default.
            thing_classes: class indices of things, instead of the processor's; segments of one
                other class are merged.
        """
        is_thing = self.is_thing(predictions.class_logits.shape[-1] - 1, thing_classes)
        results = []
        for classes, masks, size, target in self._each(predictions, sizes, target_sizes):
            plan = plan_upsampling(masks.shape[1:], size, target)
            found = self.compute_panoptic(classes, masks, plan, is_thing)
            results.append(collect_panoptic(found, target, is_thing))
        return results

    def is_thing(self, num_classes: int, thing_classes: Sequence[int] | None = None) -> np.ndarray:
        """Returns which classes are things, as bool [num_classes]."""
        things = self.thing_classes if thing_classes is None else thing_classes
        return np.ones(num_classes, bool) if things is None else np.isin(range(num_classes), things)

    def compute_panoptic(self, class_logits, mask_logits, plan, is_thing) -> postprocess.Panoptic:
        """Returns a panoptic map on the device, with this processor's thresholds."""
        return postprocess.panoptic_map(
            class_logits,
            mask_logits,
            plan,
            is_thing,
            jnp.float32(self.object_mask_threshold),
            jnp.float32(self.overlap_threshold),
            inside_masks=self.segments_inside_masks,
        )

    def post_process_semantic_segmentation(
        self,
        predictions: Predictions,
        sizes: Sequence[ImageSize],
        target_sizes: Sequence[Size] | None = None,
    ) -> list[Int[np.ndarray, "height width"]]:
        """Returns each image's class indices, int32 [height, width].

        Args:
            predictions: the model's, for the whole batch.
            sizes: the batch's sizes.
            target_sizes: (height, width) of each result; the original sizes by default.
        """
        results = []
        for classes, masks, size, target in self._each(predictions, sizes, target_sizes):
            plan = self.score_plan(masks.shape[1:], size, target)
            results.append(collect_map(self.compute_semantic(classes, masks, plan), target))
        return results

    def score_plan(
        self, logits_size: Size, size: ImageSize, target: Size
    ) -> Upsampling | ScoreUpsampling:
        """Returns the upsampling plan of semantic scores."""
        plan_of = plan_score_upsampling if self.resize_scores else plan_upsampling
        return plan_of(logits_size, size, target)

    def compute_semantic(self, class_logits, mask_logits, plan):
        """Returns a semantic map on the device."""
        if self.resize_scores:
            return postprocess.semantic_map_from_scores(class_logits, mask_logits, plan)
        return postprocess.semantic_map(class_logits, mask_logits, plan)

    def _each(self, predictions, sizes, target_sizes):
        if predictions.mask_logits.ndim != 4:
            raise ValueError(
                f"mask_logits has shape {predictions.mask_logits.shape}, those of a video model; "
                "use post_process_video_instance_segmentation"
            )
        targets = _targets(predictions, sizes, target_sizes)
        return zip(predictions.class_logits, predictions.mask_logits, sizes, targets, strict=True)


def size_of_frames(sizes: Sequence[ImageSize], frames: Sequence[ImageSource]) -> ImageSize:
    """Returns the size that all frames of a video have.

    Args:
        sizes: of the frames.
        frames: these frames.

    Raises:
        ValueError: one differs from the first; the message names its file, or else its number,
            from 0.
    """
    first = sizes[0]
    for number, (size, frame) in enumerate(zip(sizes, frames, strict=True)):
        if size != first:
            (height, width), (first_height, first_width) = size.original, first.original
            name = os.fspath(frame) if isinstance(frame, str | os.PathLike) else f"frame {number}"
            raise ValueError(
                f"{name} is {height} x {width} (height x width), and frame 0 {first_height} x "
                f"{first_width}; the frames of a video have one size"
            )
    return first


def _targets(
    predictions: Predictions, sizes: Sequence[ImageSize], target_sizes: Sequence[Size] | None
) -> list[Size]:
    """Returns the size of each result.

    Raises:
        ValueError: there isn't one size per prediction.
    """
    targets = [size.original for size in sizes] if target_sizes is None else target_sizes
    count = predictions.class_logits.shape[0]
    if not count == len(sizes) == len(targets):
        raise ValueError(
            f"{count} predictions, {len(sizes)} sizes and {len(targets)} target sizes; "
            "there must be one of each per image or video"
        )
    return [(int(height), int(width)) for height, width in targets]


def collect_map(canvas: jax.Array | np.ndarray, target: Size) -> Int[np.ndarray, "height width"]:
    """Fetches a map from the device, without the canvas around it, as int32."""
    height, width = target
    return np.asarray(canvas)[:height, :width].astype(np.int32)


def collect_panoptic(
    found: postprocess.Panoptic, target: Size, is_thing: np.ndarray
) -> PanopticSegmentation:
    """Fetches a panoptic map from the device and lists its segments."""
    ids, labels, scores = jax.device_get((found.segment_ids, found.labels, found.scores))
    segments = []
    for id_ in range(1, ids.max(initial=0) + 1):
        queries = np.flatnonzero(ids == id_)
        label = int(labels[queries[0]])
        segments.append(
            Segment(
                id=id_,
                label=label,
                is_thing=bool(is_thing[label]),
                score=float(scores[queries].max()),
            )
        )
    return PanopticSegmentation(
        segment_map=collect_map(found.segment_map, target), segments=tuple(segments)
    )
