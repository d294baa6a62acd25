"""Data in COCO's formats: annotation files of objects, or panoptic files with their PNGs.

In a file of objects, each has polygons or a run-length encoding, and objects may overlap. A
panoptic file names for every image a PNG whose red + 256 green + 65536 blue is a segment's id.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pycocotools.mask as coco_mask
from jaxtyping import Bool, Int, Int64

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import PanopticTruth, check_same_size, class_indices
from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.files import read_json
from m2f_jax.images import image_size, read_ids, read_image
from m2f_jax.labels import Label
from m2f_jax.structures import Size


@dataclass(frozen=True)
class CocoImage:
    """One image of an annotation file, and its objects or the segments of its PNG."""

    id: int | str
    image: Path
    size: Size
    segments: tuple[Mapping[str, Any], ...]
    ids: Path | None
    """The PNG of a panoptic file."""

    @property
    def name(self) -> str:
        """The id as a file name."""
        return f"{self.id}".replace("/", "_")


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """The images of an annotation file with their ground truth.

    Attributes:
        annotations: the file.
        content: what it holds; read once, for training and for the metrics.
        images: the images, in order of their ids.
        labels: the classes to learn.
        task: what the segments are, see `TrainingSet`. Objects marked `iscrowd` are groups.
        categories: all categories of the file, in its order.
        classes: class index by category id; None for stuff that an instance model doesn't learn.
    """

    annotations: Path
    content: Mapping[str, Any] = field(repr=False)
    images: tuple[CocoImage, ...] = field(repr=False)
    labels: tuple[Label, ...]
    task: Task
    categories: tuple[Label, ...]
    classes: Mapping[int, int | None]

    @property
    def rules(self) -> Literal["coco"]:
        """COCO's metrics."""
        return "coco"

    @property
    def title(self) -> str:
        """The annotation file."""
        return str(self.annotations)

    @property
    def panoptic(self) -> bool:
        """Whether this is a panoptic file, rather than one of objects."""
        return any(image.ids is not None for image in self.images)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        """The example at an index.

        Raises:
            FileNotFoundError, ValueError: as `check`.
        """
        entry = self.images[index]
        image = read_image(entry.image)
        check_same_size(entry.image, image.shape[:2], self.place(entry), entry.size)
        return Example(image, self.segments(entry, self.task))

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """The number of segments of each class.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, an outline or a category isn't possible, or sizes differ.
        """
        entry = self.images[index]
        check_same_size(entry.image, image_size(entry.image), self.place(entry), entry.size)
        return np.bincount(self.segments(entry, self.task).labels, minlength=len(self.labels))

    def files(self, index: int, task: Task) -> Sequence[Path]:
        """The annotation file, the image, and of a panoptic file the image's PNG."""
        del task
        entry = self.images[index]
        return self.annotations, entry.image, *(() if entry.ids is None else (entry.ids,))

    def ground_truth(self, index: int, task: Task) -> PanopticTruth | Segments:
        """The segments of an image; for the panoptic task, as a panoptic file has them.

        Raises:
            FileNotFoundError: the PNG of a panoptic file is missing.
            ValueError: a file is damaged, or doesn't fit the annotations.
        """
        entry = self.images[index]
        if task == "panoptic" and entry.ids is not None:
            if not entry.ids.is_file():
                raise FileNotFoundError(f"{entry.ids} is missing; name its folder with --maps")
            return PanopticTruth(read_ids(entry.ids, "rgb"), entry.segments)
        segments = self.segments(entry, task)
        place = {label.name: k for k, label in enumerate(self.categories)}
        category = np.array([place[label.name] for label in self.labels], np.int32)
        return segments._replace(labels=category[segments.labels])

    def place(self, entry: CocoImage) -> str:
        """The name of an image's annotations in messages."""
        return f"image {entry.id} of {self.annotations}"

    def segment_of(
        self, segment: Mapping[str, Any], key: int, task: Task
    ) -> tuple[int, int] | None:
        """Class index and number of the segment that this is part of; None if it isn't learned."""
        label = self.classes[segment["category_id"]]
        if label is None:
            return None
        if task == "semantic":
            return label, 0
        if segment.get("iscrowd", 0):
            return None
        if self.labels[label].is_thing:
            return label, key
        return (label, 0) if task == "panoptic" else None

    def segments(self, entry: CocoImage, task: Task) -> Segments:
        """The segments of an image."""
        if entry.ids is not None:
            return self.segments_of_png(entry, entry.ids, task)
        masks: dict[tuple[int, int], Bool[np.ndarray, "height width"]] = {}
        for number, annotation in enumerate(entry.segments):
            if (segment := self.segment_of(annotation, number, task)) is not None:
                where = f"annotation {annotation.get('id', number)} of {self.place(entry)}"
                mask = decode(annotation.get("segmentation"), entry.size, where)
                masks[segment] = masks[segment] | mask if segment in masks else mask
        labels = np.array([label for label, _ in masks], np.int32)
        return Segments.from_masks(masks.values(), labels, entry.size)

    def segments_of_png(self, entry: CocoImage, path: Path, task: Task) -> Segments:
        """The segments of an image of a panoptic file."""
        infos = {info["id"]: info for info in entry.segments}
        unknown: list[int] = []

        def segment_of(id_: int) -> tuple[int, int] | None:
            if id_ in infos:
                return self.segment_of(infos[id_], id_, task)
            if id_ != 0:
                unknown.append(id_)
            return None

        ids = read_ids(path)
        check_same_size(path, ids.shape, self.place(entry), entry.size)
        segments = Segments.from_ids(ids, segment_of)
        if unknown:
            raise ValueError(
                f"{path} has pixels of the segment {unknown[0]}, which isn't in the segments_info "
                f"of {self.place(entry)}; write both from the same data"
            )
        return segments


def coco_dataset(
    annotations: Path,
    images: Path,
    task: Task,
    labels: Sequence[Label] | None = None,
    maps: Path | None = None,
) -> CocoDataset:
    """The images of a COCO annotation file with their ground truth.

    Args:
        annotations: the file, of objects (instances_*.json) or of panoptic segments.
        images: the folder of the images.
        task: see `TrainingSet`; an instance file has no stuff, so it makes "panoptic" poor.
        labels: the classes to learn, whose names are those of categories; None for all categories
            (for the instance task, things), in order of their ids.
        maps: the folder of a panoptic file's PNGs; None for the one beside it, of its name.

    Raises:
        FileNotFoundError: the annotation file is missing.
        ValueError: the file isn't in COCO's format, or has categories that the labels lack.
    """
    if not annotations.is_file():
        raise FileNotFoundError(f"{annotations} is missing; expected a COCO annotation file")
    content = read_json(annotations)
    maps = annotations.with_suffix("") if maps is None else maps
    try:
        categories = {
            category["id"]: Label(
                id=category["id"],
                name=category["name"],
                is_thing=bool(category.get("isthing", 1)),
            )
            for category in content["categories"]
        }
        entries = {
            image["id"]: (images / image["file_name"], (image["height"], image["width"]))
            for image in content["images"]
        }
        objects: dict[int | str, list[Mapping[str, Any]]] = {id_: [] for id_ in entries}
        pngs: dict[int | str, Path] = {}
        for annotation in content["annotations"]:
            image_id = annotation["image_id"]
            if image_id not in entries:
                raise ValueError(
                    f"{annotations}: annotation {annotation.get('id', '')} is of image {image_id}, "
                    "which isn't among the images"
                )
            found = annotation.get("segments_info")
            if found is not None:
                pngs[image_id] = maps / annotation["file_name"]
            objects[image_id] += [annotation] if found is None else found
        used = {segment["category_id"] for found in objects.values() for segment in found}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{annotations} isn't in COCO's format: {type(error).__name__} {error}"
        ) from error
    if unknown := sorted(used - set(categories)):
        raise ValueError(f"{annotations}: category_id {unknown[0]} isn't among the categories")
    if pngs and (without := [id_ for id_ in entries if id_ not in pngs]):
        raise ValueError(f"{annotations}: image {without[0]} has no panoptic annotation")

    wanted = [categories[id_] for id_ in sorted(categories)]
    if task == "instance":
        wanted = [label for label in wanted if label.is_thing]
    learned = tuple(wanted if labels is None else labels)
    names = {label.name: label.id for label in categories.values()}
    classes: dict[int, int | None] = dict(class_indices(learned, names, annotations))
    extra = [label for label in wanted if label.id in used and label.id not in classes]
    if extra:
        raise ValueError(
            f"{annotations} has objects of {len(extra)} classes that the model lacks: "
            f"{', '.join(label.name for label in extra[:5])}; they would be learned as background. "
            "Give the model these classes, or remove the objects"
        )
    return CocoDataset(
        annotations=annotations,
        content=content,
        images=tuple(
            CocoImage(id_, *entries[id_], tuple(objects[id_]), pngs.get(id_))
            for id_ in sorted(entries)
        ),
        labels=learned,
        task=task,
        categories=tuple(categories.values()),
        classes={id_: classes.get(id_) for id_ in categories},
    )


def decode(outline: Any, size: Size, where: str) -> Bool[np.ndarray, "height width"]:
    """The mask of polygons (lists of x, y, x, y, ...) or of a run-length encoding.

    Raises:
        ValueError: naming `where`, if it is neither, or of another size.
    """
    if isinstance(outline, Mapping):
        if list(outline.get("size", ())) != list(size):
            raise ValueError(
                f"{where}: the run-length encoding's size is {outline.get('size')}, not that of "
                f"the image, {list(size)}"
            )
        counts = outline.get("counts")
    elif isinstance(outline, list) and outline and all(map(is_polygon, outline)):
        counts = coco_mask.merge(coco_mask.frPyObjects(outline, *size))["counts"]
    else:
        raise ValueError(
            f"{where}: segmentation is a list of polygons, each with at least three points as x, "
            "y, x, y, ..., or a run-length encoding; remove the annotation or correct it"
        )
    if isinstance(counts, str | bytes):
        counts = run_lengths(counts if isinstance(counts, bytes) else counts.encode())
    lengths = np.asarray([] if counts is None else counts, np.int64)
    if (lengths < 0).any() or lengths.sum() != size[0] * size[1]:
        raise ValueError(f"{where}: the run lengths don't add up to {size[0]} x {size[1]} pixels")
    return np.repeat(np.arange(len(lengths)) % 2 == 1, lengths).reshape(size[::-1]).T


def is_polygon(points: Any) -> bool:
    """Whether these can be the x, y, x, y, ... of three points or more."""
    return isinstance(points, list) and len(points) >= 6 and len(points) % 2 == 0


def run_lengths(counts: bytes) -> Int64[np.ndarray, "runs"]:
    """The lengths in a compressed run-length encoding.

    As rleFrString of pycocotools, whose own `decode` uses what numpy will no longer support. Five
    bits per character, least significant first; from the fourth run on, the difference to the run
    before the last.
    """
    characters = np.frombuffer(counts, np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(characters & 32 == 0)
    if not len(ends):
        return ends
    starts = np.append(0, ends[:-1] + 1)
    sizes = ends - starts + 1
    places = np.arange(ends[-1] + 1) - np.repeat(starts, sizes)
    lengths = np.add.reduceat((characters[: ends[-1] + 1] & 31) << 5 * places, starts)
    lengths -= (characters[ends] & 16 != 0) * (1 << 5 * sizes)
    lengths[1::2] = lengths[1::2].cumsum()
    lengths[2::2] = lengths[2::2].cumsum()
    return lengths
