"""The instances of an annotation file in COCO's format, checked; masks are run lengths."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pycocotools.mask as coco_mask

from m2f_jax.files import read_json

ImageId = int | str


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
        cls, source: str | os.PathLike | Mapping[str, Any], path: str | os.PathLike | None = None
    ) -> "CocoAnnotations":
        """Reads an annotation file, or its content.

        Objects without an "area" have that of their mask, those without "iscrowd" are none.

        Args:
            source: the file or the content.
            path: the file that content was read from.

        Raises:
            ValueError: it isn't one, or an entry is incomplete or refers to what isn't there.
        """
        if isinstance(source, Mapping):
            if path is None:
                return cls._checked(source, None)
        else:
            path = source
        try:
            content = source if isinstance(source, Mapping) else read_json(path)
            return cls._checked(content, os.fspath(path))
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)}: {error}") from error

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
        objects = [sound_object(entry, sizes, names) for entry in content["annotations"]]
        text = json.dumps([list(sizes.items()), list(names.items()), objects])
        digest = hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
        return cls(sizes=sizes, names=names, objects=objects, path=path, digest=digest)


def sound_object(
    entry: Mapping[str, Any], sizes: Mapping[ImageId, tuple[int, int]], names: Mapping[int, str]
) -> dict[str, Any]:
    """An entry of an annotation file with what the tools need, once it is known to be sound."""
    where = f"annotation {entry.get('id', dict(entry))}: "
    if missing := {"image_id", "category_id", "segmentation"} - set(entry):
        raise ValueError(f"{where}it has no {sorted(missing)}, without which there is no mask AP")
    image, category = entry["image_id"], entry["category_id"]
    if image not in sizes or category not in names:
        raise ValueError(f"{where}there is no image {image!r} or no category {category!r}")
    counts = compressed_counts(entry["segmentation"], sizes[image], where)
    rle: Any = {"size": list(sizes[image]), "counts": counts}
    return {
        "image_id": image,
        "category_id": category,
        "segmentation": rle,
        "area": float(entry.get("area", coco_mask.area(rle))),
        "iscrowd": int(entry.get("iscrowd", 0)),
    }


def compressed_counts(segmentation: Any, size: tuple[int, int], where: str) -> str:
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
