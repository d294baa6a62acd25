"""Average precision and recall of instance masks as COCO defines them, computed by its tools.

Detections are kept as run-length encodings. `result` hands them to the tool with images, categories
and objects numbered from 1 in the order of their ids, which changes no number: detections of equal
score are taken in the order of image ids, then as they were added.

Axes: T overlaps, R recalls, K categories, by id.
"""

import itertools
import math
import os
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from m2f_jax.datasets.coco_format.lists import ImageId
from m2f_jax.masks.rle import encode_rle, sound_counts

from ..array_files import save_arrays, saved_arrays
from .annotations import CocoAnnotations
from .tool import (
    TOOLS,
    Curves,
    Detections,
    Inputs,
    Tool,
    classes_of,
    default_tool,
    precision_and_recall,
    tool_with_version,
)

Meaning = tuple[str, str, str]
SomeResult = TypeVar("SomeResult", bound="CocoMaskAPResult")
SomeAP = TypeVar("SomeAP", bound="CocoMaskAP")


@dataclass(frozen=True, kw_only=True)
class CategoryAP:
    """Average precision of one category; NaN where it has no object."""

    ap: float
    ap50: float


@dataclass(frozen=True, eq=False, kw_only=True)
class MaskAPResult:
    """The numbers of mask AP by any rules, as fractions; NaN without objects.

    Attributes:
        rules: whose rules, such as "COCO".
        meanings: by the names of the official tool, and in its words: the overlap, the objects and
            the number of detections of each.
        unit: what may have so many detections.
        small: side in pixels of a square as large as the largest small objects.
        large: the same of the smallest large objects.
        ap: mean over ten overlaps, 0.5 to 0.95, of the average precision.
        ap50: average precision at the overlap 0.5.
        ap75: at 0.75.
        aps: as `ap`, for small objects.
        apm: for medium ones.
        apl: for large ones.
        per_category: by name.
        precision: the curves behind `ap`, at the recalls 0, 0.01, ..., 1.
        tool: what computed them, such as "hotcoco 1.3.0".
    """

    rules: ClassVar[str]
    meanings: ClassVar[Mapping[str, Meaning]]
    unit: ClassVar[str] = "an image, of each class"
    small: ClassVar[int] = 32
    large: ClassVar[int] = 96
    ap: float
    ap50: float
    ap75: float
    aps: float
    apm: float
    apl: float
    per_category: dict[str, CategoryAP]
    precision: Float[np.ndarray, "T R K"]
    tool: str

    @property
    def numbers(self) -> dict[str, float]:
        """The numbers by their usual names."""
        return {name: getattr(self, name.lower().replace("@", "")) for name in self.meanings}

    def to_json(self) -> dict[str, Any]:
        """Returns the numbers by their usual names, without the curves; None stands for NaN."""

        def plain(numbers: Mapping[str, float]) -> dict[str, float | None]:
            return {name: None if math.isnan(x) else x for name, x in numbers.items()}

        per_category = {
            name: plain({"AP": x.ap, "AP50": x.ap50}) for name, x in self.per_category.items()
        }
        return {**plain(self.numbers), "per_category": per_category, "tool": self.tool}


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoMaskAPResult(MaskAPResult):
    """COCO's twelve numbers; where the official tool prints -1, they are NaN.

    Attributes:
        ar1: mean recall with one detection per image and category.
        ar10: with ten.
        ar100: with a hundred.
        ars: as `ar100`, for small objects.
        arm: for medium ones.
        arl: for large ones.
    """

    rules: ClassVar[str] = "COCO"
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "AP": ("0.50:0.95", "all", "100"),
        "AP50": ("0.50", "all", "100"),
        "AP75": ("0.75", "all", "100"),
        "APs": ("0.50:0.95", "small", "100"),
        "APm": ("0.50:0.95", "medium", "100"),
        "APl": ("0.50:0.95", "large", "100"),
        "AR1": ("0.50:0.95", "all", "1"),
        "AR10": ("0.50:0.95", "all", "10"),
        "AR100": ("0.50:0.95", "all", "100"),
        "ARs": ("0.50:0.95", "small", "100"),
        "ARm": ("0.50:0.95", "medium", "100"),
        "ARl": ("0.50:0.95", "large", "100"),
    }
    ar1: float
    ar10: float
    ar100: float
    ars: float
    arm: float
    arl: float

    @classmethod
    def of(
        cls: type[SomeResult],
        names: Sequence[str],
        precision: Float[np.ndarray, "T R K areas=4 limits=3"],
        recall: Float[np.ndarray, "T K areas=4 limits=3"],
        tool: str,
    ) -> SomeResult:
        """Averages the tool's arrays to the numbers that the official tool prints."""
        ar100, ars, arm, arl = (mean_of(recall[..., area, 2]) for area in range(4))
        return cls(
            **precision_means(names, precision[..., 2]),
            ar1=mean_of(recall[..., 0, 0]),
            ar10=mean_of(recall[..., 0, 1]),
            ar100=ar100,
            ars=ars,
            arm=arm,
            arl=arl,
            tool=tool,
        )


def precision_means(
    names: Sequence[str], precision: Float[np.ndarray, "T R K areas=4"]
) -> dict[str, Any]:
    """Returns the fields of a `MaskAPResult` that come from precision."""
    curves = precision[..., 0]
    ap, aps, apm, apl = (mean_of(precision[..., area]) for area in range(4))
    return {
        "ap": ap,
        "ap50": mean_of(curves[0]),
        "ap75": mean_of(curves[5]),
        "aps": aps,
        "apm": apm,
        "apl": apl,
        "per_category": {
            name: CategoryAP(ap=mean_of(curves[..., k]), ap50=mean_of(curves[0, :, k]))
            for k, name in enumerate(names)
        },
        "precision": np.where(curves > -1, curves, np.nan),
    }


class CocoMaskAP:
    """Mask AP over any number of images: `add` each one, then ask for the `result`.

    The numbers are those of pycocotools' `COCOeval` for "segm", as fractions.
    """

    kind: ClassVar[str] = "image"
    format: ClassVar[str] = "CocoMaskAP 1"
    """What a file holds, and the version of its layout."""
    limit: ClassVar[int] = 100
    """How many detections of an image and category count, at most."""
    tools: ClassVar[Sequence[Tool]] = TOOLS
    """What can compute it."""
    result_type: ClassVar[type[CocoMaskAPResult]] = CocoMaskAPResult

    def __init__(
        self,
        annotations: str | os.PathLike | Mapping[str, Any] | CocoAnnotations,
        tool: Tool | None = None,
        images: Literal["all", "added"] = "all",
    ):
        """A metric without detections.

        Args:
            annotations: the file of the ground truth, its content, or `CocoAnnotations` of it.
            tool: computes the numbers: "pycocotools"; "hotcoco", which is much faster and equals
                it to the last bit; or "faster-coco-eval", which agrees to 15 digits. By default
                hotcoco where it is installed.
            images: which ones to evaluate. By default those of the file, as the official tool
                does: an image that was never added counts as one without detections. "added"
                leaves such images out, for a part of a data set.

        Raises:
            ImportError: the tool isn't installed.
            ValueError: the annotations aren't sound, or an argument is unknown.
        """
        tool = tool or self.default_tool()
        if tool not in self.tools:
            computed = f"{type(self).__name__} is computed by {', '.join(self.tools)}"
            raise ValueError(f"{computed}, not by {tool!r}")
        if images not in ("all", "added"):
            raise ValueError(f"images is {images!r}; it must be 'all' or 'added'")
        classes_of(tool)
        self._annotations = self.annotations_of(annotations)
        self.tool: Tool = tool
        self.images: Literal["all", "added"] = images
        self._detections: dict[ImageId, Detections] = {}

    def __len__(self) -> int:
        return len(self._detections)

    @property
    def annotations(self) -> CocoAnnotations:
        """The ground truth."""
        return self._annotations

    @property
    def detections(self) -> Mapping[ImageId, Detections]:
        """The detections of each image that was added, in the order in which they came."""
        return self._detections

    @property
    def evaluated(self) -> Container[ImageId]:
        """The images that count."""
        return self._detections if self.images == "added" else self.annotations.sizes

    @staticmethod
    def default_tool() -> Tool:
        """Returns the tool that computes if none is named."""
        return default_tool()

    @staticmethod
    def annotations_of(
        source: str | os.PathLike | Mapping[str, Any] | CocoAnnotations,
    ) -> CocoAnnotations:
        """Reads the ground truth, unless it was read before."""
        return source if isinstance(source, CocoAnnotations) else CocoAnnotations.of(source)

    def kept(self, image_id: ImageId, found: Detections) -> Detections:
        """Returns the detections of an image that are kept; here all."""
        del image_id
        return found

    def add(
        self,
        image_id: ImageId,
        masks: np.ndarray | Sequence[Any],
        category_ids: ArrayLike,
        scores: ArrayLike,
    ):
        """Adds all detections of one image, perhaps none; N of them in any order.

        As in the official tool, the hundred best of each category count.

        Args:
            image_id: the image's id in the annotations.
            masks: bool [N, height, width], or COCO run-length encodings.
            category_ids: the category's id in the annotations, of each detection.
            scores: a number for each detection.

        Raises:
            ValueError: the image or a category isn't in the annotations, the image was added
                before, a size doesn't fit, or a score isn't a number. Nothing was added.
        """
        where = f"{self.kind} {image_id}: "
        if image_id not in self.annotations.sizes:
            raise ValueError(
                f"{where}the annotations have no {self.kind} of this id; theirs are "
                f"{list(self.annotations.sizes)[:5]} and so on"
            )
        if image_id in self._detections:
            raise ValueError(f"{where}added already; add all its detections at once")
        categories, values = np.asarray(category_ids), np.asarray(scores, np.float64)
        if not categories.shape == values.shape == (len(masks),):
            raise ValueError(
                f"{where}{len(masks)} masks, category ids of the shape {categories.shape} and "
                f"scores of the shape {values.shape}; each detection needs one of each"
            )
        if not np.isfinite(values).all():
            raise ValueError(f"{where}some scores are not finite: {values[~np.isfinite(values)]}")
        if unknown := sorted(set(categories.tolist()) - set(self.annotations.names)):
            raise ValueError(
                f"{where}the annotations have no categories {unknown}; theirs are "
                f"{list(self.annotations.names)}. Class indices have to be turned into ids"
            )
        try:
            counts = self.counts_of(masks, self.annotations.sizes[image_id])
        except ValueError as error:
            raise ValueError(f"{where}{error}") from error
        found = Detections(categories.astype(np.int64), values, counts)
        self._detections[image_id] = self.kept(image_id, found)

    @staticmethod
    def counts_of(masks: Any, size: tuple[int, ...]) -> list[bytes]:
        """Returns the masks of an image of this size as compressed run lengths.

        Raises:
            ValueError: a size or an encoding isn't right.
        """
        height, width = size
        if not isinstance(masks, np.ndarray):
            return sound_counts(masks, (height, width))
        check_masks(masks, size)
        return [encode_rle(mask)["counts"].encode() for mask in masks]

    def merge(self, other: "CocoMaskAP"):
        """Takes over the detections of another metric, such as another process's.

        Raises:
            ValueError: the annotations or settings differ, or an image is in both.
        """
        ours, theirs = ((metric.annotations.digest, metric.images) for metric in (self, other))
        if ours != theirs:
            raise ValueError(
                f"metrics of different annotations or settings can't be merged: {ours}, {theirs}"
            )
        if doubled := [image for image in other._detections if image in self._detections]:
            raise ValueError(f"both metrics have the {self.kind}s {doubled[:5]}")
        self._detections |= other._detections

    def result(self, progress: Callable[[int], None] = lambda _: None) -> MaskAPResult:
        """Computes the numbers for all detections so far.

        Args:
            progress: called with the number of images that are done since the last call.
        """
        inputs = Inputs(self.annotations, self.detections, self.evaluated, self.limit, progress)
        return self._result_of(*self._curves(inputs))

    def _result_of(
        self,
        precision: Float[np.ndarray, "T R K areas=4 limits=3"],
        recall: Float[np.ndarray, "T K areas=4 limits=3"],
    ) -> MaskAPResult:
        names = list(self.annotations.names.values())
        return self.result_type.of(names, precision, recall, tool_with_version(self.tool))

    def _curves(self, inputs: Inputs) -> Curves:
        return precision_and_recall(self.tool, inputs)

    def save(self, path: str | os.PathLike):
        """Writes the detections into one .npz file, which is complete or not there at all.

        Of the annotations, it has the path and a fingerprint.
        """
        images = [image for image in self.annotations.sizes if image in self._detections]
        found = [self._detections[image] for image in images]
        save_arrays(
            path,
            self.format,
            annotations=self.annotations.path or "",
            digest=self.annotations.digest,
            which=self.images,
            images=np.array([str(image) for image in images], str),
            lengths=np.array([len(x.counts) for x in found], int),
            category_ids=np.concatenate([np.zeros(0, int), *(x.category_ids for x in found)]),
            scores=np.concatenate([np.zeros(0), *(x.scores for x in found)]),
            counts=np.array(b" ".join(counts for x in found for counts in x.counts)),
        )

    @classmethod
    def load(
        cls: type[SomeAP],
        path: str | os.PathLike,
        annotations: str | os.PathLike | Mapping[str, Any] | CocoAnnotations | None = None,
        tool: Tool | None = None,
    ) -> SomeAP:
        """Reads what `save` wrote.

        Args:
            path: the file.
            annotations: the ground truth; by default the file that it was read from then.
            tool: computes the numbers; by default as for a new metric.

        Raises:
            ValueError: the file is broken or of another kind, or the annotations are others.
        """
        with saved_arrays(path, cls.format) as arrays:
            saved = {name: array.tolist() for name, array in arrays.items()}
            counts = saved["counts"].split()
            ends = np.cumsum(arrays["lengths"])
            columns = [np.split(arrays[name], ends[:-1]) for name in ("category_ids", "scores")]
            if not len(counts) == len(arrays["scores"]) == len(arrays["category_ids"]):
                raise ValueError("its columns have other lengths")
        source = annotations or saved["annotations"]
        if not source:
            raise ValueError(f"{path} doesn't say where its annotations are from; pass them")
        metric = cls(source, tool, images=saved["which"])
        if metric.annotations.digest != saved["digest"]:
            raise ValueError(f"{path} was made with other annotations than {source!r:.80}")
        ids = {str(image): image for image in metric.annotations.sizes}
        parts = iter(counts)
        for image, categories, scores in zip(saved["images"], *columns, strict=False):
            own = list(itertools.islice(parts, len(scores)))
            metric._detections[ids[image]] = Detections(categories, scores, own)
        return metric


def check_masks(masks: np.ndarray, size: tuple[int, ...]):
    """Refuses masks of another type or size.

    Raises:
        ValueError: with both.
    """
    if masks.dtype != bool or masks.shape[1:] != size:
        raise ValueError(
            f"the masks are {masks.dtype} of the shape {masks.shape}; they must be bool "
            f"{[len(masks), *size]}"
        )


def mean_of(values: Float[np.ndarray, "..."]) -> float:
    """Returns the mean of what isn't -1, the official tool's sign for no objects."""
    valid = values[values > -1]
    return float(np.mean(valid)) if valid.size else math.nan
