"""The instances of an annotation file in COCO's format, as the metrics take them."""

import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pycocotools.mask as coco_mask

from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.coco_format.file import CocoFile, check_coco, read_coco_file
from m2f_jax.datasets.coco_format.lists import ImageId
from m2f_jax.datasets.coco_format.outlines import outline_counts

logger = logging.getLogger("m2f_jax")


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
    def of(
        cls, source: str | os.PathLike | Mapping[str, Any] | CocoFile, invalid: Invalid = "refuse"
    ) -> "CocoAnnotations":
        """Reads an annotation file, or its content.

        Objects without an "area" have that of their mask, those without "iscrowd" are none.

        Args:
            source: the file, its content, or what was read from it.
            invalid: what becomes of objects that can't be used, see `read_coco_file`.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: as `read_coco_file`, or it is a panoptic file.
        """
        path = None
        if isinstance(source, CocoFile):
            file, path = source, source.where
        elif isinstance(source, Mapping):
            file = check_coco(source, "the annotations", invalid)
        else:
            file, path = read_coco_file(source, invalid), os.fspath(source)
        if file.panoptic is not None:
            raise ValueError(f"{file.where} is a panoptic file; mask AP needs one of objects")
        sizes = dict(sorted((image.id, image.size) for image in file.images))
        names = dict(sorted((label.id, label.name) for label in file.categories))
        objects = []
        for found in file.objects:
            size = sizes[found.image_id]
            rle: Any = {
                "size": list(size),
                "counts": outline_counts(found.outline, size).decode(),
            }
            area = float(coco_mask.area(rle)) if found.area is None else found.area
            objects.append(
                {
                    "image_id": found.image_id,
                    "category_id": found.category_id,
                    "segmentation": rle,
                    "area": area,
                    "iscrowd": int(found.iscrowd),
                }
            )
        if any(found.id == 0 for found in file.objects):
            logger.warning(
                "%s: annotation 0 is counted as all others; pycocotools takes its id for no match, "
                "so its own numbers are too low",
                file.where,
            )
        text = json.dumps([list(sizes.items()), list(names.items()), objects])
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return cls(sizes=sizes, names=names, objects=objects, path=path, digest=digest)
