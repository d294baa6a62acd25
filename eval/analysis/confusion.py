"""How often each class was predicted as each class: of objects, segments or pixels.

Axes: K1 the classes and, last, none of them; rows are the ground truth, columns the predictions.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from ..metrics.panoptic.panoptic_quality import PanopticQuality
from ..metrics.panoptic.segment_counts import FN, FP, TP
from ..metrics.semantic.scores import SemanticIoUResult
from .errors import nearest
from .matching.judged import FOREGROUND, Judged


@dataclass(frozen=True, eq=False, kw_only=True)
class Confusion:
    """A confusion matrix.

    Attributes:
        class_names: the classes' names, by index.
        counts: objects, segments or pixels. The last row has predictions on no object, the last
            column objects that nothing was predicted on. Of pixels, the last row is empty, and the
            last column has those that were predicted as a class that isn't evaluated.
    """

    class_names: tuple[str, ...]
    counts: Int64[np.ndarray, "K1 K1"]


def object_confusion(judged: Judged, min_score: float) -> Confusion:
    """Counts predictions by the class of the object that they lie on.

    That is the object that a prediction found, or else the one, of whatever class, that it overlaps
    most, if by more than 0.5. Duplicates count like others, and ignored predictions don't.

    Args:
        judged: predictions and objects.
        min_score: predictions with a lower score are left out.
    """
    none = len(judged.class_names)
    kept = (judged.scores >= min_score) & ~judged.ignored
    iou, object_ = nearest(judged, np.ones(len(judged.pair_iou), bool))
    below = np.where(iou > FOREGROUND, object_, -1)
    below = np.where(judged.matched >= 0, judged.matched, below)
    truth = np.append(judged.object_class, none)[below]
    is_missed = np.ones(len(judged.object_class), bool)
    is_missed[below[kept & (below >= 0)]] = False
    counts = np.zeros((none + 1, none + 1), np.int64)
    np.add.at(counts, (truth[kept], judged.classes[kept]), 1)
    np.add.at(counts[:, none], judged.object_class[is_missed], 1)
    return Confusion(class_names=judged.class_names, counts=counts)


def segment_confusion(metric: PanopticQuality) -> Confusion:
    """Counts segments: matches, and those that share more than half with one of another class."""
    none = len(metric.categories)
    place = {label.id: k for k, label in enumerate(metric.categories)}
    counts = np.zeros((none + 1, none + 1), np.int64)
    for image in metric.outcomes:
        for category, kind, _, _ in image.outcomes:
            k = place[category]
            counts[{TP: (k, k), FP: (none, k), FN: (k, none)}[kind]] += 1
        for truth, predicted in image.confused:
            counts[place[truth], place[predicted]] += 1
            counts[place[truth], none] -= 1
            counts[none, place[predicted]] -= 1
    names = tuple(label.name for label in metric.categories)
    return Confusion(class_names=names, counts=counts)


def pixel_confusion(result: SemanticIoUResult) -> Confusion:
    """Counts the pixels of evaluated classes."""
    evaluated = np.flatnonzero([row.evaluated for row in result.classes])
    counts = np.zeros((len(evaluated) + 1, len(evaluated) + 1), np.int64)
    counts[:-1, :-1] = result.confusion[np.ix_(evaluated, evaluated)]
    counts[:-1, -1] = result.confusion[evaluated].sum(axis=1) - counts[:-1, :-1].sum(axis=1)
    return Confusion(class_names=tuple(result.classes[k].name for k in evaluated), counts=counts)
