"""Average precision of instance masks by LVIS's rules, as its official package computes it.

They are COCO's, with which the tool computes, and besides: the best 300 detections of an image
count, of all categories together; those of a category that wasn't looked for in the image don't;
and where not all objects of a category are annotated, a detection that matches none costs nothing.
The last is what COCO's rules say of detections on a group, so there is one over the whole image.
"""

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Float

from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.coco_format.file import CocoFile
from m2f_jax.datasets.coco_format.lists import ImageId
from m2f_jax.datasets.coco_format.lvis import FREQUENCIES, Frequency
from m2f_jax.masks.rle import encode_rle

from .annotations import CocoAnnotations, opened
from .mask_ap import CocoMaskAP, MaskAPResult, Meaning, mean_of, precision_means
from .tool import Detections, tool_with_version


@dataclass(frozen=True, eq=False, kw_only=True)
class LvisAnnotations(CocoAnnotations):
    """A data set's instances by LVIS's rules.

    The `objects` are those that have an area, none of them a group, and for each image and category
    of which not all objects are annotated, a group over the whole image.

    Attributes:
        asked: the categories that were looked for in each image.
        frequencies: of the categories, in the order of `names`.
    """

    asked: dict[ImageId, frozenset[int]]
    frequencies: tuple[Frequency, ...]

    @functools.cached_property
    def digest(self) -> str:
        """A fingerprint of all that decides a result."""
        asked = [sorted(ids) for ids in self.asked.values()]
        return self.digest_with([{"asked": asked, "frequencies": self.frequencies}])

    @classmethod
    def of(
        cls, source: str | os.PathLike | Mapping[str, Any] | CocoFile, invalid: Invalid = "refuse"
    ) -> "LvisAnnotations":
        """Reads an annotation file of LVIS, or its content; as `CocoAnnotations.of`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as there, or it isn't one of LVIS.
        """
        file, path = opened(source, invalid)
        if file.lvis is None:
            raise ValueError(
                f"{file.where}: no image has neg_category_ids; LVIS's rules need to know which "
                "categories were looked for in an image"
            )
        coco = CocoAnnotations.of(file)
        objects = [entry | {"iscrowd": 0} for entry in coco.objects if entry["area"] > 0]
        present: dict[ImageId, set[int]] = {image: set() for image in coco.sizes}
        for entry in objects:
            present[entry["image_id"]].add(entry["category_id"])
        asked = {image: present[image] | file.lvis.absent[image] for image in coco.sizes}
        for image, size in coco.sizes.items():
            if free := sorted(file.lvis.incomplete[image] & asked[image]):
                everywhere = encode_rle(np.ones(size, bool))
                area = float(np.prod(size))
                objects += [
                    {
                        "image_id": image,
                        "category_id": category,
                        "segmentation": everywhere,
                        "area": area,
                        "iscrowd": 1,
                    }
                    for category in free
                ]
        known = file.lvis.frequencies
        frequencies: tuple[Frequency, ...] = tuple(known[category] for category in coco.names)
        return cls(
            sizes=coco.sizes,
            names=coco.names,
            objects=objects,
            path=path,
            asked={image: frozenset(ids) for image, ids in asked.items()},
            frequencies=frequencies,
        )


@dataclass(frozen=True, eq=False, kw_only=True)
class LvisMaskAPResult(MaskAPResult):
    """LVIS's thirteen numbers; where the official package prints -1, they are NaN.

    Attributes:
        apr: as `ap`, of rare categories.
        apc: of common ones.
        apf: of frequent ones.
        ar300: mean recall.
        ars300: for small objects.
        arm300: for medium ones.
        arl300: for large ones.
    """

    rules: ClassVar[str] = "LVIS"
    unit: ClassVar[str] = "an image, of all classes together"
    meanings: ClassVar[Mapping[str, Meaning]] = {
        "AP": ("0.50:0.95", "all", "300"),
        "AP50": ("0.50", "all", "300"),
        "AP75": ("0.75", "all", "300"),
        "APs": ("0.50:0.95", "small", "300"),
        "APm": ("0.50:0.95", "medium", "300"),
        "APl": ("0.50:0.95", "large", "300"),
        "APr": ("0.50:0.95", "all of rare classes", "300"),
        "APc": ("0.50:0.95", "all of common classes", "300"),
        "APf": ("0.50:0.95", "all of frequent classes", "300"),
        "AR@300": ("0.50:0.95", "all", "300"),
        "ARs@300": ("0.50:0.95", "small", "300"),
        "ARm@300": ("0.50:0.95", "medium", "300"),
        "ARl@300": ("0.50:0.95", "large", "300"),
    }
    apr: float
    apc: float
    apf: float
    ar300: float
    ars300: float
    arm300: float
    arl300: float


class LvisMaskAP(CocoMaskAP):
    """Mask AP by LVIS's rules over any number of images: `add` each one, then ask for the `result`.

    It takes what `CocoMaskAP` takes; the ground truth is a file of LVIS, its content, or
    `LvisAnnotations` of it. Of the detections that are added, those that can't count aren't kept.
    """

    format: ClassVar[str] = "LvisMaskAP 1"
    limit: ClassVar[int] = 300
    """How many detections of an image count, at most."""

    @property
    def annotations(self) -> LvisAnnotations:
        """The ground truth, and what was looked for in each image."""
        assert isinstance(self._annotations, LvisAnnotations)
        return self._annotations

    @staticmethod
    def annotations_of(
        source: str | os.PathLike | Mapping[str, Any] | CocoAnnotations,
    ) -> LvisAnnotations:
        """Reads the ground truth, unless it was read before.

        Raises:
            ValueError: it was read for COCO's rules.
        """
        if isinstance(source, LvisAnnotations):
            return source
        if isinstance(source, CocoAnnotations):
            raise ValueError("the annotations were read for COCO's rules; read LvisAnnotations")
        return LvisAnnotations.of(source)

    def kept(self, image_id: ImageId, found: Detections) -> Detections:
        """Returns the detections of an image that can count: the best, with pixels, looked for."""
        best = np.sort(np.argsort(-found.scores, kind="stable")[: self.limit])
        asked = self.annotations.asked[image_id]
        best = [k for k in best.tolist() if found.category_ids[k] in asked]
        size = list(self.annotations.sizes[image_id])
        rles: list[Any] = [{"size": size, "counts": found.counts[k]} for k in best]
        kept = [k for k, rle in zip(best, rles, strict=True) if coco_mask.area(rle)]
        counts = [found.counts[k] for k in kept]
        return Detections(found.category_ids[kept], found.scores[kept], counts)

    def _result_of(
        self,
        precision: Float[np.ndarray, "T R K areas=4 limits=3"],
        recall: Float[np.ndarray, "T K areas=4 limits=3"],
    ) -> LvisMaskAPResult:
        precision, recall = precision[..., 2], recall[..., 2]
        frequencies = np.array(self.annotations.frequencies)
        apr, apc, apf = (mean_of(precision[:, :, frequencies == x, 0]) for x in FREQUENCIES)
        ar, ars, arm, arl = (mean_of(recall[..., area]) for area in range(4))
        return LvisMaskAPResult(
            **precision_means(list(self.annotations.names.values()), precision),
            apr=apr,
            apc=apc,
            apf=apf,
            ar300=ar,
            ars300=ars,
            arm300=arm,
            arl300=arl,
            tool=tool_with_version(self.tool),
        )
