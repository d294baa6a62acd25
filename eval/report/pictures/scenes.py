"""The ground truth and the predictions of an image of any data set, for pictures."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, Integer

from m2f_jax.datasets.dataset import CityscapesTruth
from m2f_jax.masks.rle import Encoding, encode_rle, sound_counts

from ...analysis.tallies.instances import SHOWN
from ...metrics.cityscapes.image_tables import CLASSES
from ...metrics.cityscapes.instance_ap import EVERYWHERE, VOID_IDS
from ...metrics.cityscapes.region_tables import FIRST_INSTANCE
from ...predictions.files import InstancePrediction, PanopticPrediction
from ...tasks import InstanceEvaluation, PanopticEvaluation, SemanticEvaluation
from ...tasks.annotations import coco_annotations
from .verdicts import ANY_CLASS, Objects, Scene


def instance_scene(
    evaluation: InstanceEvaluation, index: int, prediction: InstancePrediction
) -> Scene:
    """The instances of an image, of which predictions have a score of at least `SHOWN`."""
    dataset = evaluation.dataset
    if dataset.rules == "cityscapes":
        truth = dataset.ground_truth(index, "instance")
        assert isinstance(truth, CityscapesTruth)
        ids = truth.instance_ids
        place, size = {label.id: k for k, label in enumerate(CLASSES)}, ids.shape
        objects, free = cityscapes_objects(ids, place)
        names = [label.name for label in CLASSES]
    else:
        annotations, image = coco_annotations(dataset), dataset.images[index].id
        place = {category: k for k, category in enumerate(annotations.names)}
        height, width = annotations.sizes[image]
        size, names = (height, width), list(annotations.names.values())
        mine = [entry for entry in annotations.objects if entry["image_id"] == image]
        objects, free = (
            objects_of((x["segmentation"], place[x["category_id"]]) for x in mine if test(x))
            for test in (lambda x: not x["iscrowd"], lambda x: x["iscrowd"])
        )
    scores = np.asarray(prediction.scores, np.float64)
    order = np.argsort(-scores, kind="stable")
    order = order[(scores[order] >= SHOWN) & np.isin(prediction.labels[order], list(place))]
    found = Objects(
        masks=[encoded(prediction.masks[i], size) for i in order.tolist()],
        classes=np.array([place[int(id_)] for id_ in prediction.labels[order]], np.int64),
        scores=scores[order],
    )
    return Scene(
        class_names=names,
        truth=objects,
        found=found,
        free=free,
        half_matches=dataset.rules != "cityscapes",
    )


def cityscapes_objects(
    ids: Integer[np.ndarray, "height width"], place: Mapping[int, int]
) -> tuple[Objects, Objects]:
    """The objects that count, and the regions where predictions cost nothing."""
    counted, free = [], [(encode_rle(np.isin(ids, VOID_IDS)), ANY_CLASS)]
    for id_, area in zip(*(x.tolist() for x in np.unique(ids, return_counts=True)), strict=True):
        is_object = id_ >= FIRST_INSTANCE
        category = id_ // FIRST_INSTANCE if is_object else id_
        if category in place:
            counts = is_object and area >= EVERYWHERE.min_area
            (counted if counts else free).append((encode_rle(ids == id_), place[category]))
    return objects_of(counted), objects_of(free)


def panoptic_scene(
    evaluation: PanopticEvaluation, index: int, prediction: PanopticPrediction
) -> Scene:
    """The segments of an image."""
    categories = evaluation.dataset.categories
    place = {label.id: k for k, label in enumerate(categories)}
    truth = evaluation.truth(index)
    crowds = [segment for segment in truth.segments if segment.get("iscrowd", 0)]
    counted = [segment for segment in truth.segments if not segment.get("iscrowd", 0)]
    void = encode_rle(truth.segment_map == 0), ANY_CLASS
    return Scene(
        class_names=[label.name for label in categories],
        truth=objects_of(segments_of(truth.segment_map, counted, place)),
        found=objects_of(segments_of(prediction.segment_map, prediction.segments, place)),
        free=objects_of([void, *segments_of(truth.segment_map, crowds, place)]),
        void_counts=False,
    )


def segments_of(
    segment_map: Int[np.ndarray, "height width"],
    segments: Sequence[Mapping[str, Any]],
    place: Mapping[int, int],
) -> list[tuple[Encoding, int]]:
    """The masks and class indices of segments."""
    return [
        (encode_rle(segment_map == segment["id"]), place[segment["category_id"]])
        for segment in segments
    ]


def objects_of(pairs: Any) -> Objects:
    """Objects of masks and class indices."""
    pairs = list(pairs)
    return Objects(
        masks=[mask for mask, _ in pairs], classes=np.array([k for _, k in pairs], np.int64)
    )


def encoded(mask: Any, size: tuple[int, ...]) -> Encoding:
    """A mask as compressed run lengths."""
    if isinstance(mask, np.ndarray):
        return encode_rle(mask)
    [counts] = sound_counts([mask], (size[0], size[1]))
    return {"size": list(size), "counts": counts}


def semantic_maps(
    evaluation: SemanticEvaluation, index: int, prediction: Integer[np.ndarray, "height width"]
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, "height width"]]:
    """The class index of each pixel in the ground truth and in a prediction, -1 for none."""
    dataset = evaluation.dataset
    truth = evaluation.truth(index).class_map
    last = max(int(truth.max(initial=0)), int(prediction.max(initial=0))) + 1
    table = np.full(last + 1, -1)
    for k, label in enumerate(dataset.categories):
        known = label.id if dataset.rules == "cityscapes" else k
        if known <= last:
            table[known] = k
    return table[truth], table[prediction]
