"""Average precision and recall of instance masks as COCO defines them, computed by pycocotools.

Detections are kept as run-length encodings. `result` hands them to the tool with images, categories
and objects numbered from 1 in the order of their ids, which changes no number: detections of equal
score are taken in the order of image ids, then as they were added.

Axes: T overlaps, R recalls, K categories, by id.
"""

import contextlib
import hashlib
import importlib
import io
import itertools
import json
import math
import os
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float
from numpy.typing import ArrayLike

from m2f_jax.results import encode_rle

FORMAT = "CocoMaskAP 1"  # what a file holds, and the version of its layout

ImageId = int | str
Backend = Literal["pycocotools", "hotcoco", "faster-coco-eval"]

_BACKENDS = {  # the modules and names of the classes, which all have pycocotools' interface
    "pycocotools": ("pycocotools.coco", "pycocotools.cocoeval", "COCOeval"),
    "hotcoco": ("hotcoco", "hotcoco", "COCOeval"),
    "faster-coco-eval": ("faster_coco_eval", "faster_coco_eval", "COCOeval_faster"),
}


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
        ap, aps, apm, apl = (_mean(precision[..., area, 2]) for area in range(4))
        ar100, ars, arm, arl = (_mean(recall[..., area, 2]) for area in range(4))
        per_category = {
            name: CategoryAP(ap=_mean(curves[..., k]), ap50=_mean(curves[0, :, k]))
            for k, name in enumerate(names)
        }
        return cls(
            ap=ap,
            ap50=_mean(curves[0]),
            ap75=_mean(curves[5]),
            aps=aps,
            apm=apm,
            apl=apl,
            ar1=_mean(recall[..., 0, 0]),
            ar10=_mean(recall[..., 0, 1]),
            ar100=ar100,
            ars=ars,
            arm=arm,
            arl=arl,
            per_category=per_category,
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
            sizes, names = dict(sorted(sizes.items())), dict(sorted(names.items()))
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


class Detection(NamedTuple):
    """One detection in an image; its mask is compressed run lengths."""

    category_id: int
    score: float
    counts: str


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
            backend: the tool that computes the numbers. The other two are packages of their own,
                several times as fast, and agree with it to 15 digits.
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
        _tool(backend)
        if not isinstance(annotations, CocoAnnotations):
            annotations = CocoAnnotations.of(annotations)
        self.annotations = annotations
        self.backend: Backend = backend
        self.images: Literal["all", "added"] = images
        self._detections: dict[ImageId, list[Detection]] = {}

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
        self._detections[image_id] = list(
            map(Detection, categories.tolist(), values.tolist(), counts)
        )

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
        evaluated = self._detections if self.images == "added" else self.annotations.sizes
        truth, found = _numbered(self.annotations, self._detections, evaluated)
        coco, evaluator = _tool(self.backend)

        def dataset(annotations: list[dict[str, Any]]) -> Any:
            made = coco()  # the tool's own reader of results would fail where there are none
            made.dataset = truth | {"annotations": annotations}
            made.createIndex()
            return made

        with contextlib.redirect_stdout(io.StringIO()):
            evaluation = evaluator(dataset(truth["annotations"]), dataset(found), "segm")
            evaluation.evaluate()
            evaluation.accumulate()
        precision, recall = evaluation.eval["precision"], evaluation.eval["recall"]
        return CocoMaskAPResult.of(list(self.annotations.names.values()), precision, recall)

    def save(self, path: str | os.PathLike):
        """Writes the detections into one .npz file, which is complete or not there at all.

        Of the annotations, it has the path and a fingerprint.
        """
        images = [image for image in self.annotations.sizes if image in self._detections]
        detections = [detection for image in images for detection in self._detections[image]]
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
                    lengths=np.array([len(self._detections[image]) for image in images], int),
                    category_ids=np.array([found.category_id for found in detections], int),
                    scores=np.array([found.score for found in detections], float),
                    counts=np.array(" ".join(found.counts for found in detections).encode()),
                )
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)

    @classmethod
    def load(
        cls,
        path: str | os.PathLike,
        annotations: str | os.PathLike | Mapping[str, Any] | CocoAnnotations | None = None,
    ) -> "CocoMaskAP":
        """Reads what `save` wrote.

        Args:
            path: the file.
            annotations: the ground truth; by default the file that it was read from then.

        Raises:
            ValueError: the file is broken or of another kind, or the annotations are others.
        """
        with Path(path).open("rb") as file:
            try:
                saved = {name: array.tolist() for name, array in np.load(file).items()}
                if saved["format"] != FORMAT:
                    raise ValueError(f"its format is {saved['format']}")
                counts = saved["counts"].decode().split()
                columns = zip(saved["category_ids"], saved["scores"], counts, strict=True)
                detections = itertools.starmap(Detection, list(columns))
                lengths = dict(zip(saved["images"], saved["lengths"], strict=True))
            except Exception as error:
                raise ValueError(f"{path} isn't a whole file of CocoMaskAP: {error}") from error
        source = annotations or saved["annotations"]
        if not source:
            raise ValueError(f"{path} doesn't say where its annotations are from; pass them")
        metric = cls(source, backend=saved["backend"], images=saved["which"])
        if metric.annotations.digest != saved["digest"]:
            raise ValueError(f"{path} was made with other annotations than {source!r:.80}")
        ids = {str(image): image for image in metric.annotations.sizes}
        for image, length in lengths.items():
            metric._detections[ids[image]] = list(itertools.islice(detections, length))
        return metric


def _object(
    entry: Mapping[str, Any], sizes: Mapping[ImageId, tuple[int, int]], names: Mapping[int, str]
) -> dict[str, Any]:
    """An entry of an annotation file with what the tools need, once it is known to be sound."""
    where = f"annotation {entry.get('id', dict(entry))}: "
    if missing := {"image_id", "category_id", "segmentation"} - set(entry):
        raise ValueError(f"{where}it has no {sorted(missing)}, without which there is no mask AP")
    image, category = entry["image_id"], entry["category_id"]
    if image not in sizes or category not in names:
        raise ValueError(f"{where}there is no image {image!r} or no category {category!r}")
    counts = _counts(entry["segmentation"], sizes[image], where)
    rle: Any = {"size": list(sizes[image]), "counts": counts}
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": rle,
        "area": float(entry.get("area", coco_mask.area(rle))),
        "iscrowd": int(entry.get("iscrowd", 0)),
    }


def _counts(segmentation: Any, size: tuple[int, int], where: str) -> str:
    """The compressed run lengths of a mask of that size: polygons, or run lengths of any kind."""
    try:
        if not isinstance(segmentation, Mapping):
            segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
        if tuple(segmentation["size"]) != size:
            raise ValueError(f"its size is {segmentation['size']}, the image's {list(size)}")
        counts = segmentation["counts"]
        if isinstance(counts, list):
            if sum(counts) != size[0] * size[1]:
                raise ValueError(f"its runs have {sum(counts)} pixels, the image {list(size)}")
            runs: Any = {"size": size, "counts": counts}
            counts = coco_mask.frPyObjects(runs, *size)["counts"]
        return counts if isinstance(counts, str) else counts.decode()
    except Exception as error:
        raise ValueError(f"{where}a mask can't be read: {error}") from error


def _numbered(
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


def _tool(backend: Backend) -> tuple[Any, Any]:
    """The backend's class for data sets and its class for evaluation."""
    data, evaluation, name = _BACKENDS[backend]
    try:
        return importlib.import_module(data).COCO, getattr(
            importlib.import_module(evaluation), name
        )
    except ImportError as error:
        raise ImportError(
            f"the backend {backend} isn't installed; pip install {backend}"
        ) from error


def _mean(values: Float[np.ndarray, "..."]) -> float:
    """The mean of what isn't -1, the official tool's sign for no objects."""
    valid = values[values > -1]
    return float(np.mean(valid)) if valid.size else math.nan
