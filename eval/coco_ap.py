"""Average precision and recall of instance masks as COCO defines them, computed by pycocotools.

Detections are kept as run-length encodings. `result` hands them to the tool with images, categories
and objects numbered from 1 in the order of their ids, which changes no number: detections of equal
score are taken in the order of image ids, then as they were added.

Axes: T overlaps, R recalls, K categories, by id.
"""

import contextlib
import copy
import hashlib
import importlib
import io
import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float
from numpy.typing import ArrayLike
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from m2f_jax.results import encode_rle

FORMAT = "CocoMaskAP 1"  # what a file holds, and the version of its layout

ImageId = int | str
Backend = Literal["pycocotools", "hotcoco", "faster-coco-eval"]


@dataclass(frozen=True, kw_only=True)
class CategoryAP:
    """Average precision of one category; NaN where it has no object."""

    ap: float
    ap50: float


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoMaskAPResult:
    """COCO's twelve numbers, as fractions; NaN, where the official tool prints -1, without objects.

    Attributes:
        ap: mean over ten overlaps, 0.5 to 0.95, of the average precision.
        ap50: average precision at the overlap 0.5.
        ap75: at 0.75.
        aps: as `ap`, for small objects, at most 32 x 32 pixels in area.
        apm: for medium ones.
        apl: for large ones, at least 96 x 96 pixels in area.
        ar1: mean recall with one detection per image and category.
        ar10: with ten.
        ar100: with a hundred.
        ars: as `ar100`, for small objects.
        arm: for medium ones.
        arl: for large ones.
        per_category: by name.
        precision: the curves behind `ap`, at the recalls 0, 0.01, ..., 1.
    """

    ap: float
    ap50: float
    ap75: float
    aps: float
    apm: float
    apl: float
    ar1: float
    ar10: float
    ar100: float
    ars: float
    arm: float
    arl: float
    per_category: dict[str, CategoryAP]
    precision: Float[np.ndarray, "T R K"]

    @classmethod
    def of(
        cls,
        names: Sequence[str],
        precision: Float[np.ndarray, "T R K areas=4 limits=3"],
        recall: Float[np.ndarray, "T K areas=4 limits=3"],
    ) -> "CocoMaskAPResult":
        """The means that the official tool prints, of the arrays that it computes."""
        curves = precision[..., 0, 2]
        return cls(
            ap=_mean(curves),
            ap50=_mean(curves[0]),
            ap75=_mean(curves[5]),
            aps=_mean(precision[..., 1, 2]),
            apm=_mean(precision[..., 2, 2]),
            apl=_mean(precision[..., 3, 2]),
            ar1=_mean(recall[..., 0, 0]),
            ar10=_mean(recall[..., 0, 1]),
            ar100=_mean(recall[..., 0, 2]),
            ars=_mean(recall[..., 1, 2]),
            arm=_mean(recall[..., 2, 2]),
            arl=_mean(recall[..., 3, 2]),
            per_category={
                name: CategoryAP(ap=_mean(curves[:, :, k]), ap50=_mean(curves[0, :, k]))
                for k, name in enumerate(names)
            },
            precision=np.where(curves > -1, curves, np.nan),
        )

    def to_json(self) -> dict[str, Any]:
        """The numbers by their usual names, without the curves; None stands for NaN."""

        def named(numbers: Mapping[str, float]) -> dict[str, float | None]:
            return {
                name[:2].upper() + name[2:]: None if math.isnan(number) else number
                for name, number in numbers.items()
            }

        numbers = {key: value for key, value in vars(self).items() if isinstance(value, float)}
        per_category = {name: named(vars(ap)) for name, ap in self.per_category.items()}
        return {**named(numbers), "per_category": per_category}


@dataclass(frozen=True, eq=False, kw_only=True)
class CocoAnnotations:
    """A data set's instances, read and checked once; several metrics may share them.

    Attributes:
        sizes: height and width of the images, by id.
        names: of the categories, by id.
        objects: entries of an annotation file; their segmentations are compressed run lengths.
        path: the file, if they come from one.
        digest: a fingerprint of all that decides a result.
    """

    sizes: dict[ImageId, tuple[int, int]]
    names: dict[int, str]
    objects: list[dict[str, Any]]
    path: str | None
    digest: str

    @classmethod
    def of(cls, source: str | os.PathLike | Mapping[str, Any]) -> "CocoAnnotations":
        """Reads an annotation file, or its content.

        Objects without an "area" have that of their mask, those without "iscrowd" are none.

        Raises:
            ValueError: it isn't one, or an entry is incomplete or refers to what isn't there.
        """
        if isinstance(source, Mapping):
            return cls._checked(source, None)
        with Path(source).open("rb") as file:
            try:
                return cls._checked(json.load(file), os.fspath(source))
            except ValueError as error:
                raise ValueError(f"{os.fspath(source)}: {error}") from error

    @classmethod
    def _checked(cls, content: Mapping[str, Any], path: str | None) -> "CocoAnnotations":
        if missing := {"images", "categories", "annotations"} - set(content):
            raise ValueError(f"no {sorted(missing)}; this isn't COCO's format for instances")
        try:
            sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
            names = {category["id"]: category["name"] for category in content["categories"]}
            sizes, names = (dict(sorted(entries.items())) for entries in (sizes, names))
        except (KeyError, TypeError) as error:
            raise ValueError(
                "images need an id, height and width, categories an id and a name, and all ids "
                f"must be of one type: {error!r}"
            ) from error
        for kind, entries in (("images", sizes), ("categories", names)):
            if len(entries) < len(content[kind]):
                raise ValueError(f"several {kind} share an id; number them anew")
        if len(set(names.values())) < len(names):
            raise ValueError(f"several categories share a name: {sorted(names.values())}")
        objects = [_object(entry, sizes, names) for entry in content["annotations"]]
        text = json.dumps([list(sizes.items()), list(names.items()), objects])
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return cls(sizes=sizes, names=names, objects=objects, path=path, digest=digest)


class Detections(NamedTuple):
    """What was detected in one image, in the order in which it was added."""

    category_ids: list[int]
    scores: list[float]
    counts: list[str]  # compressed run lengths


class CocoMaskAP:
    """Mask AP over any number of images: `add` each one, then ask for the `result`."""

    def __init__(
        self,
        annotations: str | os.PathLike | Mapping[str, Any] | CocoAnnotations,
        backend: Backend = "pycocotools",
        images: Literal["all", "added"] = "all",
    ):
        """A metric without detections.

        Args:
            annotations: the file of the ground truth, its content, or `CocoAnnotations` of it.
            backend: the tool that computes the numbers. All three give the same; the other two are
                faster, and packages of their own.
            images: which ones to evaluate. By default those of the file, as the official tool
                does: an image that was never added counts as one without detections. "added"
                leaves such images out, for a part of a data set.

        Raises:
            ImportError: the backend isn't installed.
            ValueError: the annotations aren't sound, or an argument is unknown.
        """
        if backend not in _BACKENDS or images not in ("all", "added"):
            raise ValueError(
                f"backend={backend!r}, images={images!r}: the backends are {list(_BACKENDS)}, and "
                "the images 'all' or 'added'"
            )
        if importlib.util.find_spec(backend.replace("-", "_")) is None:
            raise ImportError(f"the backend {backend} isn't installed; pip install {backend}")
        if not isinstance(annotations, CocoAnnotations):
            annotations = CocoAnnotations.of(annotations)
        self.annotations = annotations
        self.backend: Backend = backend
        self.images: Literal["all", "added"] = images
        self._detections: dict[ImageId, Detections] = {}

    def __len__(self) -> int:
        return len(self._detections)

    def add(
        self,
        image_id: ImageId,
        masks: np.ndarray | Sequence[Mapping[str, Any]],
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
        where = f"image {image_id}: "
        if image_id not in self.annotations.sizes:
            raise ValueError(
                f"{where}the annotations have no image of this id; theirs are "
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
        size = self.annotations.sizes[image_id]
        if isinstance(masks, np.ndarray):
            if masks.dtype != bool or masks.shape[1:] != size:
                raise ValueError(
                    f"{where}the masks are {masks.dtype} of the shape {masks.shape}; they must be "
                    f"bool [{len(masks)}, {size[0]}, {size[1]}]"
                )
            masks = [encode_rle(mask) for mask in masks]
        counts = [_counts(rle, size, where) for rle in masks]
        self._detections[image_id] = Detections(categories.tolist(), values.tolist(), counts)

    def merge(self, other: "CocoMaskAP"):
        """Takes over the detections of another metric, such as another process's.

        Raises:
            ValueError: the annotations or settings differ, or an image is in both.
        """
        ours, theirs = (
            (metric.annotations.digest, metric.backend, metric.images) for metric in (self, other)
        )
        if ours != theirs:
            raise ValueError(
                f"metrics of different annotations or settings can't be merged: {ours}, {theirs}"
            )
        if doubled := [image for image in other._detections if image in self._detections]:
            raise ValueError(f"both metrics have the images {doubled[:5]}")
        self._detections |= other._detections

    def result(self) -> CocoMaskAPResult:
        """The numbers for all detections so far.

        The official tool reports on its work; meanwhile, what is printed is lost.
        """
        truth, detections = _numbered(self.annotations, self._detections)
        numbers = {image: n for n, image in enumerate(self.annotations.sizes, 1)}
        chosen = self._detections if self.images == "added" else self.annotations.sizes
        with contextlib.redirect_stdout(io.StringIO()):
            precision, recall = _BACKENDS[self.backend](
                truth, detections, sorted(numbers[image] for image in chosen)
            )
        return CocoMaskAPResult.of(list(self.annotations.names.values()), precision, recall)

    def save(self, path: str | os.PathLike):
        """Writes the detections into one .npz file, which is complete or not there at all.

        Of the annotations, it has the path and a fingerprint.
        """
        images = [image for image in self.annotations.sizes if image in self._detections]
        found = [self._detections[image] for image in images]
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with unfinished.open("wb") as file:
                np.savez_compressed(
                    file,
                    format=FORMAT,
                    annotations=self.annotations.path or "",
                    digest=self.annotations.digest,
                    backend=self.backend,
                    which=self.images,
                    images=np.array([str(image) for image in images], str),
                    lengths=np.array([len(detections.counts) for detections in found], np.int64),
                    category_ids=np.array(sum((d.category_ids for d in found), []), np.int64),
                    scores=np.array(sum((d.scores for d in found), []), np.float64),
                    counts=np.frombuffer(
                        "\n".join(sum((d.counts for d in found), [])).encode(), np.uint8
                    ),
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
