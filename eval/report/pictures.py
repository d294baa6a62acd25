"""The pictures of a report: the images with the most faults, their objects drawn over them."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Bool, Integer, UInt8
from markupsafe import Markup
from PIL import Image

from m2f_jax.datasets.published.cityscapes import CityscapesImage
from m2f_jax.images import read_ids, read_image
from m2f_jax.inference.processor import FOR_DISPLAY
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import Label
from m2f_jax.visualization.drawing import draw_instances

from ..metrics.instances.cityscapes_ap import EVERYWHERE
from ..metrics.instances.image_tables import CLASSES
from ..metrics.instances.region_tables import FIRST_INSTANCE
from ..metrics.instances.report_data import InstanceAPResult
from ..predictions.cityscapes import size_of
from ..predictions.files import InstancePrediction, PredictionFiles
from .instances import worst_first
from .page import PARTS, embedded, section, shrunk

HOW_TO_COMPARE = (
    "On the left (above, where there is little room) the objects of the ground truth that count, "
    f"on the right the predictions with a score of at least {FOR_DISPLAY}. What is on the left "
    "only was missed; what is on the right only is false, unless its place isn't evaluated."
)


@dataclass(frozen=True, eq=False, kw_only=True)
class Picture:
    """An image twice: with the objects of the ground truth, and with the predicted ones."""

    name: str
    caption: str
    ground_truth: UInt8[np.ndarray, "height width 3"]
    prediction: UInt8[np.ndarray, "height width 3"]


def picture_section(pictures: Sequence[Picture]) -> Markup:
    """The part of the page that shows pictures."""
    pairs = [
        PARTS.pair(picture, embedded(picture.ground_truth), embedded(picture.prediction))
        for picture in pictures
    ]
    return section("Pictures", HOW_TO_COMPARE, *pairs)


def worst_images(result: InstanceAPResult, count: int = 4) -> dict[str, str]:
    """Returns names of images with their faults, "5 missed, 3 false", the worst first.

    They are from the table of the worst images, in its order; those with the most missed objects
    and those with the most false ones are chosen in turns. As in pictures, predictions with a
    score below `FOR_DISPLAY` aren't there.
    """
    counts = result.image_counts(FOR_DISPLAY)
    missed, false = counts.missed.sum(axis=1), counts.false.sum(axis=1)
    named = [i for i in worst_first(counts) if counts.images[i]]
    by_missed = sorted(named, key=lambda i: -missed[i])
    by_false = sorted(named, key=lambda i: -false[i])
    turns = dict.fromkeys(i for turn in zip(by_missed, by_false, strict=True) for i in turn)
    chosen = sorted(list(turns)[:count], key=named.index)
    return {counts.images[i]: f"{missed[i]} missed, {false[i]} false" for i in chosen}


def worst_pictures(
    segmenter: Segmenter, items: Sequence[CityscapesImage], result: InstanceAPResult
) -> list[Picture]:
    """Segments the worst images once more and draws them beside their ground truth."""

    def segment(item: CityscapesImage) -> InstanceSegmentation:
        return segmenter(read_image(item.image), "instance", threshold=FOR_DISPLAY)

    return draw_worst(segment, segmenter.config.labels, items, result)


def worst_pictures_of_files(
    files: PredictionFiles, items: Sequence[CityscapesImage], result: InstanceAPResult
) -> list[Picture]:
    """Draws the worst images with the instances in files beside their ground truth."""
    index = {label.id: k for k, label in enumerate(CLASSES)}

    def read(item: CityscapesImage) -> InstanceSegmentation:
        found: InstancePrediction = files.read(item)
        kept = (found.scores >= FOR_DISPLAY) & np.isin(found.labels, list(index))
        order = [i for i in np.argsort(-found.scores, kind="stable").tolist() if kept[i]]
        size = size_of(item)
        masks = [decoded(found.masks[i]) for i in order]
        return InstanceSegmentation.from_masks(
            scores=found.scores[order].astype(np.float32),
            labels=np.array([index[int(found.labels[i])] for i in order], np.int32),
            masks=np.array(masks, bool).reshape(-1, *size),
            queries=np.arange(len(order), dtype=np.int32),
        )

    return draw_worst(read, CLASSES, items, result)


def decoded(mask: np.ndarray | dict) -> Bool[np.ndarray, "height width"]:
    """Returns a mask, decoded if it is run lengths."""
    if isinstance(mask, np.ndarray):
        return mask
    rle: Any = mask
    if isinstance(rle["counts"], list):
        rle = coco_mask.frPyObjects(rle, *rle["size"])
    with warnings.catch_warnings():  # NumPy's about the array that pycocotools makes
        warnings.simplefilter("ignore", DeprecationWarning)
        return coco_mask.decode(rle).astype(bool)


def draw_worst(
    segmentation_of: Callable[[CityscapesImage], InstanceSegmentation],
    labels: Sequence[Label],
    items: Sequence[CityscapesImage],
    result: InstanceAPResult,
) -> list[Picture]:
    """Draws the worst images beside their ground truth; only things are shown."""
    by_name = {item.name: item for item in items}
    pictures = []
    for name, caption in worst_images(result).items():
        item = by_name[name]
        image = read_image(item.image)
        found = segmentation_of(item)
        found = found.select(np.array([labels[k].is_thing for k in found.labels], bool))
        truth = true_instances(read_ids(item.instance_ids))
        pictures.append(
            Picture(
                name=name,
                caption=caption,
                ground_truth=overlay(image, truth, CLASSES, show_scores=False),
                prediction=overlay(image, found, labels, show_scores=True),
            )
        )
    return pictures


def true_instances(instance_ids: Integer[np.ndarray, "height width"]) -> InstanceSegmentation:
    """Returns the objects that count, with score 1; labels are indices of the evaluated classes."""
    class_of_id = {label.id: k for k, label in enumerate(CLASSES)}
    ids, areas = np.unique(instance_ids, return_counts=True)
    counted = [
        i
        for i, area in zip(ids.tolist(), areas.tolist(), strict=True)
        if i >= FIRST_INSTANCE
        and i // FIRST_INSTANCE in class_of_id
        and area >= EVERYWHERE.min_area
    ]
    return InstanceSegmentation.from_masks(
        scores=np.ones(len(counted), np.float32),
        labels=np.array([class_of_id[i // FIRST_INSTANCE] for i in counted], np.int32),
        masks=instance_ids == np.array(counted, np.int32)[:, None, None],
        queries=np.arange(len(counted), dtype=np.int32),
    )


def overlay(
    image: UInt8[np.ndarray, "height width 3"],
    found: InstanceSegmentation,
    labels: Sequence[Label],
    *,
    show_scores: bool,
) -> UInt8[np.ndarray, "rows columns 3"]:
    """Draws instances over an image, which is made small first so that labels stay legible."""
    size = shrunk(image.shape[1], image.shape[0])
    nearest, smooth = Image.Resampling.NEAREST, Image.Resampling.LANCZOS
    masks = [np.array(Image.fromarray(mask).resize(size, nearest)) for mask in found.masks]
    small = InstanceSegmentation.from_masks(
        scores=found.scores,
        labels=found.labels,
        masks=np.array(masks, bool).reshape(-1, size[1], size[0]),
        queries=found.queries,
    )
    below = np.array(Image.fromarray(image).resize(size, smooth))
    names = [label.name for label in labels]
    return draw_instances(below, small, names, show_scores=show_scores)
