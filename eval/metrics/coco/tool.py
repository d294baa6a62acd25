"""COCO's official tool, or one with the same interface, run on detections in memory.

hotcoco takes them part by part, so that memory stays small. Of videos, where masks are tracks, it
is pycocotools with another comparison of masks.

Axes: N detections, T overlaps, R recalls, K categories, by id.
"""

import contextlib
import functools
import importlib
import importlib.metadata
import importlib.util
import io
import itertools
import queue
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float, Int64
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from m2f_jax.datasets.coco_format.lists import ImageId
from m2f_jax.files import without_collection
from m2f_jax.masks.tracks import track_overlaps

from .annotations import CocoAnnotations, mean_area

Tool = Literal["pycocotools", "hotcoco", "faster-coco-eval"]
TOOLS: tuple[Tool, ...] = get_args(Tool)

TRACK_AREAS = ((0, 1e10), (0, 128**2), (128**2, 256**2), (256**2, 1e10))  # all, small, ...
FRAMES, NO_MASK = b",", b"-"  # bytes that compressed counts never have
AT_ONCE = 64  # images that hotcoco gets at a time
THREADS = 3  # that feed hotcoco: one is taken over while others are matched


class Detections(NamedTuple):
    """The detections of an image or a video."""

    category_ids: Int64[np.ndarray, "N"]
    scores: Float[np.ndarray, "N"]
    counts: list[bytes]
    """Each one's mask as compressed run lengths; in a video, those of each frame (`joined`)."""


Curves = tuple[
    Float[np.ndarray, "T R K areas=4 limits=3"],
    Float[np.ndarray, "T K areas=4 limits=3"],
]
"""Precision and recall, the arrays behind COCO's numbers; -1 where there are no objects."""

LIMITS = (1, 10)  # of detections of a category, besides the one that is asked for

Measured = tuple[Any, float]
"""A detection's segmentation as the tool takes it, and its area."""


class Inputs(NamedTuple):
    """What a tool computes from.

    Attributes:
        annotations: the ground truth.
        detections: by image, or by video.
        evaluated: the images to evaluate.
        limit: how many detections of an image and category count, at most.
        progress: called with the number of images that are done since the last call.
    """

    annotations: CocoAnnotations
    detections: Mapping[ImageId, Detections]
    evaluated: Container[ImageId]
    limit: int
    progress: Callable[[int], None]


def default_tool() -> Tool:
    """Returns the fastest tool that is installed and equals pycocotools to the last bit."""
    return "pycocotools" if importlib.util.find_spec("hotcoco") is None else "hotcoco"


def tool_with_version(tool: Tool) -> str:
    """Returns what computed a result, such as "pycocotools 2.0.11"."""
    return f"{tool} {importlib.metadata.version(tool)}"


def precision_and_recall(tool: Tool, inputs: Inputs) -> Curves:
    """Returns the precision and recall of masks in images, as the tool computes them."""
    if tool == "hotcoco":
        with without_collection():
            return streamed(inputs)

    def measured(counts: bytes, size: Sequence[int]) -> Measured:
        mask: Any = {"size": list(size), "counts": counts}
        return mask, float(coco_mask.area(mask))

    truth, found = numbered(inputs, measured)
    if tool == "pycocotools":
        counted = functools.partial(CountedEvaluator, inputs.progress, "segm")
        return curves(COCO, counted, truth, found, inputs.limit)
    coco, evaluator = classes_of(tool)
    result = curves(coco, functools.partial(evaluator, iouType="segm"), truth, found, inputs.limit)
    inputs.progress(len(truth["images"]))
    return result


def track_precision_and_recall(inputs: Inputs) -> Curves:
    """Returns the precision and recall of tracks in videos, by YouTubeVIS's rules."""

    def measured(counts: bytes, size: Sequence[int]) -> Measured:
        masks: Any = parted(counts, (size[1], size[2]))
        return masks, mean_area([float(coco_mask.area(x)) for x in masks if x is not None])

    truth, found = numbered(inputs, measured)
    counted = functools.partial(TrackEvaluator, inputs.progress)
    return curves(COCO, counted, truth, found, inputs.limit)


def streamed(inputs: Inputs) -> Curves:
    """Returns what hotcoco computes.

    Images, in the order of their ids, and categories are numbered as `numbered` has them. While
    hotcoco matches one part of the images, it takes over another one, which needs Python's lock.
    """
    annotations, detections, evaluated, limit, progress = inputs
    hotcoco = load("hotcoco", "hotcoco")
    params = hotcoco.Params("segm")
    params.max_dets = [*LIMITS, limit]
    categories = category_numbers(annotations)
    objects: dict[ImageId, list[dict[str, Any]]] = {image: [] for image in annotations.sizes}
    for number, entry in enumerate(annotations.objects, 1):
        objects[entry["image_id"]].append(
            entry | {"id": number, "category_id": categories[entry["category_id"]]}
        )
    named = [{"id": k, "name": str(k)} for k in categories.values()]
    evaluators = [hotcoco.StreamingEval(named, "segm", params=params) for _ in range(THREADS)]
    idle = queue.SimpleQueue()
    for evaluator in evaluators:
        idle.put(evaluator)

    def match(part: list[tuple[int, tuple[ImageId, tuple[int, ...]]]]) -> int:
        images, truth, results = [], [], []
        for number, (image, (height, width)) in part:
            if image not in evaluated:
                continue
            size = [height, width]
            images.append({"id": number, "height": height, "width": width})
            truth += [entry | {"image_id": number} for entry in objects[image]]
            if (found := detections.get(image)) is not None:
                columns = found.category_ids.tolist(), found.scores.tolist(), found.counts
                results += [
                    {
                        "image_id": number,
                        "category_id": categories[category],
                        "segmentation": {"size": size, "counts": counts},
                        "score": score,
                    }
                    for category, score, counts in zip(*columns, strict=True)
                ]
        if images:
            evaluator = idle.get()
            evaluator.update(images, truth, results)
            idle.put(evaluator)
        return len(images)

    with ThreadPoolExecutor(THREADS) as pool:
        for count in pool.map(match, parts_of(enumerate(annotations.sizes.items(), 1))):
            progress(count)
    evaluation = hotcoco.StreamingEval.merge(evaluators).finalize()
    evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def parts_of(items: Iterator[Any]) -> Iterator[list[Any]]:
    """Yields what hotcoco gets at a time."""
    while part := list(itertools.islice(items, AT_ONCE)):
        yield part


def category_numbers(annotations: CocoAnnotations) -> dict[int, int]:
    """Returns the number of each category, from 1."""
    return {category: number for number, category in enumerate(annotations.names, 1)}


def joined(counts: Sequence[bytes | None]) -> bytes:
    """Returns a track's counts as one text; None stands for a frame without a mask."""
    return FRAMES.join(NO_MASK if one is None else one for one in counts)


def parted(counts: bytes, size: tuple[int, int]) -> list[dict[str, Any] | None]:
    """Returns a track's masks, of counts as `joined` returns them."""
    return [
        None if one == NO_MASK else {"size": list(size), "counts": one}
        for one in counts.split(FRAMES)
    ]


class CountedEvaluator(COCOeval):
    """pycocotools' evaluation, which says how far it is while it matches."""

    params: Any

    def __init__(self, progress: Callable[[int], None], kind: Any, truth: Any, found: Any):
        super().__init__(truth, found, kind)
        self.progress, self.calls = progress, 0

    def evaluateImg(self, imgId: Any, catId: Any, aRng: Any, maxDet: Any) -> Any:  # noqa: N802, N803
        """Matches an image's detections of one category and range of areas."""
        self.calls += 1
        if self.calls % (len(self.params.catIds) * len(self.params.areaRng)) == 0:
            self.progress(1)
        return super().evaluateImg(imgId, catId, aRng, maxDet)


class TrackEvaluator(CountedEvaluator):
    """pycocotools' evaluation, of tracks: other overlaps and ranges of areas."""

    _gts: Any  # by image and category
    _dts: Any

    def __init__(self, progress: Callable[[int], None], truth: Any, found: Any):
        super().__init__(progress, "bbox", truth, found)  # which leaves segmentations as they are
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
    limit: int,
) -> Curves:
    """Runs a tool, which reports on its work; meanwhile, what is printed is lost.

    Args:
        coco: the tool's class for data sets.
        evaluator: its class for evaluations.
        truth: the content of an annotation file.
        found: that of a results file.
        limit: how many detections of an image and category count, at most.
    """

    def dataset(annotations: list[dict[str, Any]]) -> Any:
        made = coco()  # the tool's own reader of results would fail where there are none
        made.dataset = {**truth, "annotations": annotations}
        made.createIndex()
        return made

    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = evaluator(dataset(truth["annotations"]), dataset(found))
        evaluation.params.maxDets = [*LIMITS, limit]
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


def numbered(
    inputs: Inputs, measured: Callable[[bytes, Sequence[int]], Measured]
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Returns the content of an annotation file and of a results file, with ids counted from 1.

    So a tool that takes the id 0 for "no match" is right whatever ids a file has. Images that are
    not evaluated are left out.

    Args:
        inputs: the ground truth and the detections.
        measured: returns a detection's segmentation and area, of its counts and its image's size.
    """
    annotations, detections, evaluated = inputs[:3]
    sizes = annotations.sizes.items()
    images = {image: number for number, image in enumerate(annotations.sizes, 1)}
    categories = category_numbers(annotations)
    results: list[dict[str, Any]] = []
    for image, found in ((x, detections[x]) for x in images if x in detections):
        columns = found.category_ids.tolist(), found.scores.tolist(), found.counts
        for category, score, counts in zip(*columns, strict=True):
            segmentation, area = measured(counts, annotations.sizes[image])
            results.append(
                {
                    "id": len(results) + 1,
                    "image_id": images[image],
                    "category_id": categories[category],
                    "segmentation": segmentation,
                    "area": area,
                    "score": score,
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
        "images": [
            {"id": images[image], "height": h, "width": w}
            for image, (*_, h, w) in sizes
            if image in evaluated
        ],
        "categories": [{"id": number, "name": str(number)} for number in categories.values()],
        "annotations": objects,
    }
    return truth, results


def classes_of(tool: Tool) -> tuple[Any, Any]:
    """Returns the tool's class for data sets and its class for evaluation.

    Raises:
        ImportError: it isn't installed.
    """
    if tool == "pycocotools":
        return COCO, COCOeval
    if tool == "hotcoco":
        module = load(tool, "hotcoco")
        return module.COCO, module.COCOeval
    module = load(tool, "faster_coco_eval")
    return module.COCO, module.COCOeval_faster


def load(tool: Tool, module: str) -> Any:
    """Returns a tool's module.

    Raises:
        ImportError: it isn't installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        message = f"the tool {tool} isn't installed; pip install {tool}"
        raise ImportError(message, name=module) from error  # the name tells m2f which extra
