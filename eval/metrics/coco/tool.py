"""COCO's official tool, or one with the same interface, run on detections in memory.

Of videos, where masks are tracks, it is pycocotools with another comparison of masks.

Axes: T overlaps, R recalls, K categories, by id.
"""

import contextlib
import functools
import importlib
import io
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from m2f_jax.datasets.coco_format.lists import ImageId
from m2f_jax.rle import track_overlaps

from .annotations import CocoAnnotations, mean_area

Backend = Literal["pycocotools", "hotcoco", "faster-coco-eval"]

BACKENDS = {  # the modules and names of the classes, which all have pycocotools' interface
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "hotcoco": ("hotcoco", "hotcoco", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}

TRACK_AREAS = ((0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10))  # all, small, ...
FRAMES, NO_MASK = ",", "-"  # which no counts have


class Detection(NamedTuple):
    """One detection; its mask is compressed run lengths, in a video of each frame (`joined`)."""

    category_id: int
    score: float
    counts: str


Curves = tuple[
    Float[np.ndarray, "T R K areas=4 limits=3"],
    Float[np.ndarray, "T K areas=4 limits=3"],
]
"""Precision and recall, the arrays behind COCO's numbers; -1 where there are no objects."""

Measured = tuple[Any, float]
"""A detection's segmentation as the tool takes it, and its area."""


def precision_and_recall(
    backend: Backend,
    annotations: CocoAnnotations,
    detections: Mapping[ImageId, Sequence[Detection]],
    evaluated: Container[ImageId],
) -> Curves:
    """Precision and recall of masks in images.

    Args:
        backend: which tool computes them.
        annotations: the ground truth.
        detections: by image.
        evaluated: the images to evaluate.
    """

    def measured(counts: str, size: Sequence[int]) -> Measured:
        mask: Any = {"size": list(size), "counts": counts}
        return mask, float(coco_mask.area(mask))

    coco, evaluator = tool(backend)
    truth, found = numbered(annotations, detections, evaluated, measured)
    return curves(coco, functools.partial(evaluator, iouType="segm"), truth, found)


def track_precision_and_recall(
    annotations: CocoAnnotations,
    detections: Mapping[ImageId, Sequence[Detection]],
    evaluated: Container[ImageId],
) -> Curves:
    """The same of tracks in videos, by YouTubeVIS's rules; arguments as there."""

    def measured(counts: str, size: Sequence[int]) -> Measured:
        masks: Any = parted(counts, (size[1], size[2]))
        return masks, mean_area([float(coco_mask.area(x)) for x in masks if x is not None])

    truth, found = numbered(annotations, detections, evaluated, measured)
    return curves(COCO, TrackEvaluator, truth, found)


def joined(counts: Sequence[str | None]) -> str:
    """Returns a track's counts as one text; None stands for a frame without a mask."""
    return FRAMES.join(NO_MASK if one is None else one for one in counts)


def parted(counts: str, size: tuple[int, int]) -> list[dict[str, Any] | None]:
    """Returns a track's masks, of counts as `joined` returns them."""
    return [
        None if one == NO_MASK else {"size": list(size), "counts": one}
        for one in counts.split(FRAMES)
    ]


class TrackEvaluator(COCOeval):
    """pycocotools' evaluation, of tracks: other overlaps and ranges of areas."""

    _gts: Any  # by image and category
    _dts: Any

    def __init__(self, truth: Any, found: Any):
        super().__init__(truth, found, "bbox")  # which leaves segmentations as they are
        self.params.areaRng = [list(bounds) for bounds in TRACK_AREAS]

    def computeIoU(self, imgId: Any, catId: Any) -> Any:  # noqa: N802, N803 - pycocotools' names
        """Returns the overlaps of a video's best detections of a category with its objects.

        Groups are no exception, as in YouTubeVIS's own evaluation.
        """
        found, truth = self._dts[imgId, catId], self._gts[imgId, catId]
        if not found and not truth:
            return []
        order = np.argsort([-x["score"] for x in found], kind="mergesort")
        best = [found[i]["segmentation"] for i in order[: self.params.maxDets[-1]]]
        return track_overlaps(best, [x["segmentation"] for x in truth])


def curves(
    coco: Any,
    evaluator: Callable[[Any, Any], Any],
    truth: Mapping[str, Any],
    found: list[dict[str, Any]],
) -> Curves:
    """Runs a tool, which reports on its work; meanwhile, what is printed is lost.

    Args:
        coco: the tool's class for data sets.
        evaluator: its class for evaluations.
        truth: the content of an annotation file.
        found: that of a results file.
    """

    def dataset(annotations: list[dict[str, Any]]) -> Any:
        made = coco()  # the tool's own reader of results would fail where there are none
        made.dataset = {**truth, "annotations": annotations}
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluator(dataset(truth["annotations"]), dataset(found))
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def numbered(
    annotations: CocoAnnotations,
    detections: Mapping[ImageId, Sequence[Detection]],
    evaluated: Container[ImageId],
    measured: Callable[[str, Sequence[int]], Measured],
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The content of an annotation file and of a results file, with all ids counted from 1.

    So a tool that takes the id 0 for "no match" is right whatever ids a file has. Images that are
    not evaluated have no objects, which leaves them out.
    """
    sizes = annotations.sizes.items()
    images = {image: number for number, image in enumerate(annotations.sizes, 1)}
    categories = {category: number for number, category in enumerate(annotations.names, 1)}
    results: list[dict[str, Any]] = []
    for image, size in sizes:
        for found in detections.get(image, ()):
            segmentation, area = measured(found.counts, size)
            results.append(
                {
                    "id": len(results) + 1,
                    "image_id": images[image],
                    "category_id": categories[found.category_id],
                    "segmentation": segmentation,
                    "area": area,
                    "score": found.score,
                    "iscrowd": 0,
                }
            )
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
        "images": [{"id": images[image], "height": h, "width": w} for image, (*_, h, w) in sizes],
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
