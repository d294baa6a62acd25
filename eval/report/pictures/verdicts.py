"""What became of each prediction and each object of one image.

Axes: P predictions, R objects, F regions where predictions cost nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float64, Int64

from ...analysis.errors import Error, kinds
from ...analysis.matching.judged import FOREGROUND, Judged
from ..sections.errors import KINDS, style_of

RIGHT, IGNORED = "right", "ignored"
FOUND, MISSED = "found", "missed"

# Of each verdict: its words and its letter. Missed objects and right predictions are on two sides.
VERDICTS = {
    FOUND: ("found", ""),
    MISSED: ("missed", "M"),
    RIGHT: ("right", ""),
    **{style_of(error): KINDS[error][:2] for error in Error if error != Error.MISSED},
    IGNORED: ("not judged", "N"),
}

ANY_CLASS = -1  # of a region where predictions of every class cost nothing


@dataclass(frozen=True, eq=False, kw_only=True)
class Objects:
    """Objects, predictions or regions of one image.

    Attributes:
        masks: compressed run lengths.
        classes: index of each one's class.
        scores: of predictions.
    """

    masks: Sequence[Any]
    classes: Int64[np.ndarray, "N"]
    scores: Float64[np.ndarray, "N"] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Scene:
    """One image's ground truth and predictions.

    Attributes:
        class_names: names.
        truth: the objects that count.
        found: predictions, the best score first.
        free: regions where predictions cost nothing: void, crowds, groups, tiny objects.
        void_counts: whether void below a prediction belongs to a union; in panoptic quality it
            doesn't.
        half_matches: whether an overlap of exactly 0.5 is a match, as COCO has it.
    """

    class_names: Sequence[str]
    truth: Objects
    found: Objects
    free: Objects
    void_counts: bool = True
    half_matches: bool = False


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdicts:
    """The verdicts of a scene, by their names in the style sheet.

    Attributes:
        truth: "found" or "missed", of each object.
        found: "right", "ignored" or the name of an `Error`, of each prediction.
    """

    truth: Sequence[str]
    found: Sequence[str]


def judge(scene: Scene) -> Verdicts:
    """Finds out what is right, and what is wrong with the rest."""
    truth, found, free = scene.truth, scene.found, scene.free
    areas, sizes = areas_of(found), areas_of(truth)
    in_common, in_free = shared(found, truth), shared(found, free)
    void = in_free[:, free.classes == ANY_CLASS].sum(axis=1)
    unions = areas[:, None] + sizes - in_common - (0 if scene.void_counts else void[:, None])
    iou = in_common / np.maximum(unions, 1)
    own = free.classes == found.classes[:, None]
    excused = void + np.where(own, in_free, 0).sum(axis=1) > areas / 2

    candidates = np.where(truth.classes == found.classes[:, None], iou, 0.0)
    least = FOREGROUND if scene.half_matches else np.nextafter(FOREGROUND, 1)
    matched = np.full(len(areas), -1)
    for p in range(len(areas)):
        best = int(candidates[p].argmax()) if len(sizes) else 0
        if candidates[p, best : best + 1].max(initial=0.0) >= least:
            matched[p] = best
            candidates[:, best] = 0.0
    prediction, object_ = np.nonzero(iou)
    judged = Judged(
        class_names=tuple(scene.class_names),
        classes=found.classes,
        scores=np.zeros(len(areas)),
        ignored=excused & (matched < 0),
        object_class=truth.classes,
        matched=matched,
        pair_prediction=prediction,
        pair_object=object_,
        pair_iou=iou[prediction, object_],
    )
    kind, _ = kinds(judged)
    return Verdicts(
        truth=[FOUND if r in matched else MISSED for r in range(len(sizes))],
        found=[
            RIGHT if matched[p] >= 0 else IGNORED if excused[p] else Error(kind[p]).name.lower()
            for p in range(len(areas))
        ],
    )


def areas_of(objects: Objects) -> Int64[np.ndarray, "N"]:
    """The pixels of each one."""
    # One by one, since pycocotools takes no list of more than 255.
    return np.array([coco_mask.area(one) for one in objects.masks], np.int64)


def shared(first: Objects, second: Objects) -> Int64[np.ndarray, "N M"]:
    """The pixels that each one of the first shares with each one of the second."""
    if not len(first.masks) or not len(second.masks):
        return np.zeros((len(first.masks), len(second.masks)), np.int64)
    one: Any = first.masks
    other: Any = second.masks
    parts = np.array(coco_mask.iou(one, other, [1] * len(other))).reshape(len(one), len(other))
    return np.rint(parts * areas_of(first)[:, None]).astype(np.int64)
