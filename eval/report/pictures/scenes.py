"""The objects and the predictions of an image of any data set, matched as its metric does."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float64, Int, Integer

from m2f_jax.datasets.dataset import CityscapesTruth
from m2f_jax.masks.rle import Encoding, SoundMasks, encode_rle, sound_counts

from ...analysis.matching.cityscapes import cityscapes_judged
from ...analysis.matching.coco import coco_judged
from ...analysis.matching.coco_overlaps import best_of_classes, coco_overlaps
from ...analysis.matching.judged import Judged
from ...analysis.matching.panoptic import panoptic_judged
from ...analysis.tallies.instances import SHOWN
from ...metrics.cityscapes.image_tables import CLASSES
from ...metrics.cityscapes.instance_ap import EVERYWHERE, CityscapesInstanceAP
from ...metrics.cityscapes.matching import match
from ...metrics.coco.mask_ap import CocoMaskAP
from ...predictions.files import InstancePrediction, PanopticPrediction
from ...tasks import InstanceEvaluation, PanopticEvaluation, SemanticEvaluation


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """One image's ground truth and predictions.

    Attributes:
        judged: their classes, scores and matches.
        truth: the masks of the objects that count, as compressed run lengths.
        found: the masks of the predictions; of instances the best score first.
        scores: of the predictions; None of segments.
    """

    judged: Judged
    truth: Sequence[Encoding]
    found: Sequence[Encoding]
    scores: Float64[np.ndarray, "P"] | None


def instance_scene(
    evaluation: InstanceEvaluation, index: int, prediction: InstancePrediction
) -> Scene:
    """Matches the instances of an image, of which predictions have a score from `SHOWN`."""
    order = np.argsort(-np.asarray(prediction.scores), kind="stable")
    order = order[np.asarray(prediction.scores)[order] >= SHOWN]
    masks: Any = prediction.masks
    masks = masks[order] if isinstance(masks, np.ndarray) else [masks[i] for i in order.tolist()]
    shown = InstancePrediction(masks, prediction.labels[order], prediction.scores[order])
    metric = evaluation.count(index, evaluation.truth(index), shown)
    if isinstance(metric, CocoMaskAP):
        return coco_scene(metric)
    truth = evaluation.dataset.ground_truth(index, "instance")
    assert isinstance(truth, CityscapesTruth)
    return cityscapes_scene(metric, truth.instance_ids, shown)


def cityscapes_scene(
    metric: CityscapesInstanceAP,
    instance_ids: Integer[np.ndarray, "height width"],
    prediction: InstancePrediction,
) -> Scene:
    """Returns the scene of a metric of one image, whose predictions have descending scores."""
    pool = metric.pool()
    matches = match(pool, EVERYWHERE)
    evaluated = np.isin(prediction.labels, [label.id for label in CLASSES])
    masks = [
        encoded(prediction.masks[i], instance_ids.shape) for i in np.flatnonzero(evaluated).tolist()
    ]
    return Scene(
        judged=cityscapes_judged(pool, matches),
        truth=[encode_rle(instance_ids == id_) for id_ in pool.region_id[matches.counted]],
        found=[mask for mask in masks if coco_mask.area(cast("Any", mask))],
        scores=pool.scores,
    )


def coco_scene(metric: CocoMaskAP) -> Scene:
    """Returns the scene of a metric of one image, whose predictions have descending scores."""
    [(image_id, detections)] = metric.detections.items()
    found, annotations = best_of_classes(detections, metric.limit), metric.annotations
    height, width = annotations.sizes[image_id]
    objects = [x for x in annotations.objects if x["image_id"] == image_id and not x["iscrowd"]]
    return Scene(
        judged=coco_judged(coco_overlaps(metric)),
        truth=[entry["segmentation"] for entry in objects],
        found=SoundMasks(found.counts, (height, width)),
        scores=found.scores,
    )


def panoptic_scene(
    evaluation: PanopticEvaluation, index: int, prediction: PanopticPrediction
) -> Scene:
    """Matches the segments of an image."""
    truth = evaluation.truth(index)
    counted = [one["id"] for one in truth.segments if not one.get("iscrowd", 0)]
    found = [one["id"] for one in prediction.segments]
    return Scene(
        judged=panoptic_judged(evaluation.dataset.categories, *truth, *prediction),
        truth=[encode_rle(truth.segment_map == id_) for id_ in counted],
        found=[encode_rle(prediction.segment_map == id_) for id_ in found],
        scores=None,
    )


def encoded(mask: Any, size: tuple[int, ...]) -> Encoding:
    """Returns a mask as compressed run lengths."""
    if isinstance(mask, np.ndarray):
        return encode_rle(mask)
    [counts] = sound_counts([mask], (size[0], size[1]))
    return {"size": list(size), "counts": counts}


def semantic_maps(
    evaluation: SemanticEvaluation, index: int, prediction: Integer[np.ndarray, "height width"]
) -> tuple[Int[np.ndarray, "height width"], Int[np.ndarray, "height width"]]:
    """Returns each pixel's class index in the ground truth and in a prediction, -1 for none."""
    dataset = evaluation.dataset
    truth = evaluation.truth(index).class_map
    last = max(int(truth.max(initial=0)), int(prediction.max(initial=0))) + 1
    table = np.full(last + 1, -1)
    for k, label in enumerate(dataset.categories):
        known = label.id if dataset.rules == "cityscapes" else k
        if known <= last:
            table[known] = k
    return table[truth], table[prediction]
