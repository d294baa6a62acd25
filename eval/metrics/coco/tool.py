"""COCO's official tool, or one with the same interface, run on detections in memory.

Axes: T overlaps, R recalls, K categories, by id.
"""

import contextlib
import importlib
import io
from collections.abc import Container, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float

from m2f_jax.datasets.coco_format.lists import ImageId

from .annotations import CocoAnnotations

Backend = Literal["pycocotools", "hotcoco", "faster-coco-eval"]

BACKENDS = {  # the modules and names of the classes, which all have pycocotools' interface
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "hotcoco": ("hotcoco", "hotcoco", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}


class Detection(NamedTuple):
    """One detection in an image; its mask is compressed run lengths."""

    category_id: int
    score: float
    counts: str


def precision_and_recall(
    backend: Backend,
    annotations: CocoAnnotations,
    detections: Mapping[ImageId, Sequence[Detection]],
    evaluated: Container[ImageId],
) -> tuple[
    Float[np.ndarray, "T R K areas=4 limits=3"],
    Float[np.ndarray, "T K areas=4 limits=3"],
]:
    """The arrays behind COCO's numbers; -1 where there are no objects.

    The tool reports on its work; meanwhile, what is printed is lost.

    Args:
        backend: which tool computes them.
        annotations: the ground truth.
        detections: by image.
        evaluated: the images to evaluate.
    """
    truth, found = numbered(annotations, detections, evaluated)
    coco, evaluator = tool(backend)

    def dataset(annotations: list[dict[str, Any]]) -> Any:
        made = coco()  # the tool's own reader of results would fail where there are none
        made.dataset = truth | {"annotations": annotations}
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluator(dataset(truth["annotations"]), dataset(found), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def numbered(
    annotations: CocoAnnotations,
    detections: Mapping[ImageId, Sequence[Detection]],
    evaluated: Container[ImageId],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The content of an annotation file and of a results file, with all ids counted from 1.

    So a tool that takes the id 0 for "no match" is right whatever ids a file has. Images that are
    not evaluated have no objects, which leaves them out.
    """
    sizes = annotations.sizes.items()
    images = {image: number for number, image in enumerate(annotations.sizes, 1)}
    categories = {category: number for number, category in enumerate(annotations.names, 1)}
    results = [
        {
            "image_id": images[image],
            "category_id": categories[found.category_id],
            "segmentation": {"size": list(size), "counts": found.counts},
            "score": found.score,
            "iscrowd": 0,
        }
        for image, size in sizes
        for found in detections.get(image, ())
    ]
    for number, result in enumerate(results, 1):
        result |= {"id": number, "area": float(coco_mask.area(result["segmentation"]))}
    objects = [
        entry
        | {
            "id": number,
            "image_id": images[entry["image_id"]],
            "category_id": categories[entry["category_id"]],
        }
        for number, entry in enumerate(annotations.objects, 1)
        if entry["image_id"] in evaluated
    ]
    truth = {
        "images": [{"id": images[image], "height": h, "width": w} for image, (h, w) in sizes],
        "categories": [{"id": number, "name": str(number)} for number in categories.values()],
        "annotations": objects,
    }
    return truth, results


def tool(backend: Backend) -> tuple[Any, Any]:
    """The backend's class for data sets and its class for evaluation.

    Raises:
        ImportError: it isn't installed.
    """
    data, evaluation, name = BACKENDS[backend]
    try:
        return importlib.import_module(data).COCO, getattr(
            importlib.import_module(evaluation), name
        )
    except ImportError as error:
        raise ImportError(
            f"the backend {backend} isn't installed; pip install {backend}"
        ) from error
