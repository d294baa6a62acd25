"""What Cityscapes' label and instance ids mean to metrics; panoptic ground truth read off them."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, Int64, Integer, Shaped

from m2f_jax.labels import CITYSCAPES

from ..pixel_runs import counts, runs_of

LARGEST_INSTANCE_ID = 33_999  # the label ids end at 33
TRAIN_IDS_MESSAGE = (
    "these seem to be train ids rather than label ids; read *_gtFine_labelIds.png, and turn "
    "predicted train ids into label ids: [label.id for label in m2f_jax.labels.CITYSCAPES]"
)


@dataclass(frozen=True, kw_only=True)
class SemanticClass:
    """A class of the ground truth, evaluated or not.

    Attributes:
        name: as people read it.
        category: the group of classes it belongs to; empty if there are no groups.
        evaluated: False where pixels of this class are left out.
        mean_area: of its objects, in pixels, over the data set; 0 for classes without objects.
    """

    name: str
    category: str = ""
    evaluated: bool = True
    mean_area: float = 0.0


def _parse(text: str) -> tuple[SemanticClass, ...]:
    """Returns the classes in "category: name, name" entries between semicolons.

    A name may be followed by the mean area of its objects. Which classes are evaluated, the label
    ids of `CITYSCAPES` say: a class's id is its place.
    """
    evaluated = {label.id for label in CITYSCAPES}
    classes = []
    for entry in text.split(";"):
        category, names = entry.split(":")
        for words in (name.split() for name in names.split(",")):
            area = float(words.pop()) if words[-1][0].isdigit() else 0.0
            classes.append(
                SemanticClass(
                    name=" ".join(words),
                    category=category.strip(),
                    evaluated=len(classes) in evaluated,
                    mean_area=area,
                )
            )
    return tuple(classes)


# The 34 classes of the label ids, with the mean areas that the official script has.
CITYSCAPES_CLASSES = _parse("""
    void: unlabeled, ego vehicle, rectification border, out of roi, static, dynamic, ground;
    flat: road, sidewalk, parking, rail track;
    construction: building, wall, fence, guard rail, bridge, tunnel;
    object: pole, polegroup, traffic light, traffic sign;
    nature: vegetation, terrain;
    sky: sky;
    human: person 3462.4756337644, rider 3930.4788056518;
    vehicle: car 12794.0202738185, truck 27855.1264367816, bus 35732.1511111111,
        caravan 36771.8241758242, trailer 16926.9763313609, train 67583.7075812274,
        motorcycle 6298.7200839748, bicycle 4672.3249222261
""")


def class_ids(instance_ids: Integer[np.ndarray, "*shape"]) -> Integer[np.ndarray, "*shape"]:
    """Returns the label ids of instance ids: from 1000 on, an id is label id * 1000 + number."""
    return np.where(instance_ids < 1000, instance_ids, instance_ids // 1000)


def refuse_train_ids(confusion: Int[np.ndarray, "34 34"], side: str):
    """Refuses predictions, the columns of a confusion table, that look like train ids.

    Raises:
        ValueError: only 0 to 18 are predicted, among them classes that are never evaluated, and
            more pixels agree if they are read as train ids. 0 says nothing: it is also "no class".
    """
    label_ids = np.array([label.id for label in CITYSCAPES])
    used = np.flatnonzero(confusion.any(axis=0))
    never_evaluated = np.setdiff1d(used, [0, *label_ids])
    if not len(never_evaluated) or used[-1] >= len(label_ids):
        return
    as_train_ids = confusion[label_ids[1:], np.arange(1, len(label_ids))].sum()
    if as_train_ids > confusion[label_ids, label_ids].sum():
        raise ValueError(f"{side} has no value but {used.tolist()}: {TRAIN_IDS_MESSAGE}")


def count_objects(
    instance_ids: Integer[np.ndarray, "runs"],
    label_ids: Int[np.ndarray, "runs"],
    lengths: Int64[np.ndarray, "runs"],
    where: str = "",
) -> tuple[tuple[int, int, int, int], ...]:
    """Counts how the objects of evaluated classes were predicted; groups aren't objects.

    Args:
        instance_ids: the ground truth of each run of pixels.
        label_ids: the prediction there.
        lengths: the pixels of the run.
        where: the beginning of messages.

    Returns:
        For each object, by id: its class, its pixels, those that were predicted as its class, and
        those that were predicted as a class of the same category.

    Raises:
        ValueError: an object's class has no objects.
    """
    categories = np.array([row.category for row in CITYSCAPES_CLASSES])
    ids, rows = np.unique(instance_ids, return_inverse=True)
    cells = rows * len(categories) + label_ids
    table = counts(cells, lengths, (len(ids), len(categories)))
    objects = []
    for instance_id, found in zip(ids.tolist(), table, strict=True):
        number = instance_id // 1000
        if instance_id <= 1000 or not CITYSCAPES_CLASSES[number].evaluated:
            continue
        if not CITYSCAPES_CLASSES[number].mean_area:
            raise ValueError(
                f"{where}{instance_id} is the id of an object, but {number}, "
                f"{CITYSCAPES_CLASSES[number].name}, is stuff"
            )
        in_category = found[categories == categories[number]]
        objects.append((number, *map(int, (found.sum(), found[number], in_category.sum()))))
    return tuple(objects)


def panoptic_ground_truth(
    instance_ids: Shaped[np.ndarray, "..."], image: str = ""
) -> tuple[Int32[np.ndarray, "height width"], list[dict[str, Any]]]:
    """Returns the map and the list of segments that the official converter makes.

    They are what the metric `PanopticQuality` takes. Objects and regions of stuff keep their ids.
    A region of a countable class whose objects weren't told apart (its id is below 1000) is a
    group: "iscrowd" is 1. Classes that aren't evaluated become 0, void, and so do caravans and
    trailers with all their objects.

    Args:
        instance_ids: the values of a `*_gtFine_instanceIds.png`, whole numbers [height, width].
        image: the image's name, for messages.

    Raises:
        ValueError: the array isn't of that kind, or holds ids that Cityscapes doesn't have.
    """
    where = "" if image == "" else f"image {image}: "
    if instance_ids.ndim != 2 or instance_ids.dtype.kind not in "iu":
        raise ValueError(
            f"{where}instance ids must be whole numbers [height, width], not {instance_ids.dtype} "
            f"of the shape {instance_ids.shape}; read *_gtFine_instanceIds.png"
        )
    low, high = int(instance_ids.min(initial=0)), int(instance_ids.max(initial=0))
    if low < 0 or high > LARGEST_INSTANCE_ID:
        raise ValueError(
            f"{where}instance ids go from {low} to {high}, beyond 0 to {LARGEST_INSTANCE_ID}; read "
            "*_gtFine_instanceIds.png"
        )
    lengths, (values,) = runs_of(instance_ids)
    areas = counts(values, lengths, (high + 1,))
    ids = np.flatnonzero(areas)
    classes = class_ids(ids)
    if bad := ids[classes >= len(CITYSCAPES_CLASSES)].tolist():
        raise ValueError(f"{where}the instance ids {bad} belong to no class; label ids end at 33")
    things = {label.id: label.is_thing for label in CITYSCAPES}
    segments = [
        {
            "id": segment_id,
            "category_id": class_id,
            "area": int(areas[segment_id]),
            "iscrowd": int(segment_id < 1000 and things[class_id]),
        }
        for segment_id, class_id in zip(ids.tolist(), classes.tolist(), strict=True)
        if class_id in things
    ]
    table = np.zeros(len(areas), np.int32)
    kept = [segment["id"] for segment in segments]
    table[kept] = kept
    return np.repeat(table[values], lengths).reshape(instance_ids.shape), segments
