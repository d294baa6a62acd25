"""Data in COCO's formats: annotation files of objects, or panoptic files with their PNGs.

In a file of objects, each object has polygons or a run-length encoding, and objects may overlap. A
panoptic file names a PNG for every image; in it, red + 256 green + 65536 blue is a segment's id.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Int

from m2f_jax.config import Task
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.coco_format.file import CocoFile, read_coco_file
from m2f_jax.datasets.coco_format.lists import name_of_id
from m2f_jax.datasets.coco_format.objects import CocoObject, CocoSegment
from m2f_jax.datasets.coco_format.outlines import outline_counts
from m2f_jax.datasets.dataset import PanopticTruth, check_same_size, class_indices
from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.images import image_size, read_ids, read_image
from m2f_jax.labels import Label
from m2f_jax.masks.rle import decode_rle
from m2f_jax.sizes import Size


@dataclass(frozen=True)
class CocoImage:
    """One image of an annotation file, and its objects or the segments of its PNG."""

    id: int | str
    file_name: str
    image: Path
    size: Size
    segments: tuple[CocoObject, ...] | tuple[CocoSegment, ...]
    ids: Path | None
    """The PNG of a panoptic file."""

    @property
    def name(self) -> str:
        """The id as a file name; different ids have different names."""
        return name_of_id(self.id)


@dataclass(frozen=True, eq=False)
class CocoDataset:
    """The images of an annotation file with their ground truth.

    Attributes:
        annotations: the file.
        file: its content, read once for training and for the metrics.
        images: the images, in order of their ids.
        labels: the classes to learn.
        task: what the segments are, see `TrainingSet`. Objects marked `iscrowd` are groups.
        categories: the categories of the file, in its order.
        classes: class index by category id; None for stuff that an instance model doesn't learn.
    """

    annotations: Path
    file: CocoFile = field(repr=False)
    images: tuple[CocoImage, ...] = field(repr=False)
    labels: tuple[Label, ...]
    task: Task
    categories: tuple[Label, ...]
    classes: Mapping[int, int | None]

    @property
    def rules(self) -> Literal["coco", "lvis"]:
        """COCO's metrics; for instances of LVIS's files, LVIS's."""
        return "coco" if self.file.lvis is None else "lvis"

    @property
    def title(self) -> str:
        """The annotation file."""
        return str(self.annotations)

    @property
    def panoptic(self) -> bool:
        """Whether this is a panoptic file, rather than one of objects."""
        return self.file.panoptic is not None

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        """Returns the example at an index.

        Raises:
            FileNotFoundError, ValueError: as `check`.
        """
        entry = self.images[index]
        image = read_image(entry.image)
        check_same_size(entry.image, image.shape[:2], self.place(entry), entry.size)
        return Example(image, self.segments(entry, self.task))

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """Returns the number of segments of each class that have a pixel.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, an outline or a category isn't possible, or sizes differ.
        """
        entry = self.images[index]
        check_same_size(entry.image, image_size(entry.image), self.place(entry), entry.size)
        segments = self.segments(entry, self.task)
        return np.bincount(segments.labels[segments.visible], minlength=len(self.labels))

    def files(self, index: int, task: Task) -> Sequence[Path]:
        """Returns the annotation file, the image, and of a panoptic file the image's PNG."""
        del task
        entry = self.images[index]
        return self.annotations, entry.image, *(() if entry.ids is None else (entry.ids,))

    def ground_truth(self, index: int, task: Task) -> PanopticTruth | Segments:
        """Returns the segments of an image; for the panoptic task, as a panoptic file has them.

        Raises:
            FileNotFoundError: the PNG of a panoptic file is missing.
            ValueError: a file is damaged, or doesn't fit the annotations.
        """
        entry = self.images[index]
        if task == "panoptic" and entry.ids is not None:
            if not entry.ids.is_file():
                raise FileNotFoundError(f"{entry.ids} is missing; name its folder with --maps")
            infos = [segment._asdict() for segment in entry.segments]
            return PanopticTruth(read_ids(entry.ids, "rgb"), infos)
        segments = self.segments(entry, task)
        place = {label.name: k for k, label in enumerate(self.categories)}
        category = np.array([place[label.name] for label in self.labels], np.int32)
        return segments._replace(labels=category[segments.labels])

    def place(self, entry: CocoImage) -> str:
        """Returns the name of an image's annotations in messages."""
        return f"image {entry.id} of {self.annotations}"

    def segment_of(
        self, segment: CocoObject | CocoSegment, key: int, task: Task
    ) -> tuple[int, int] | None:
        """Returns class index and number of the segment that an object or a segment is part of.

        Args:
            segment: the object or the segment of the file.
            key: differs between those of an image.
            task: decides what is one segment, see `TrainingSet`.

        Returns:
            None if it isn't learned.
        """
        label = self.classes[segment.category_id]
        if label is None:
            return None
        if task == "semantic":
            return label, 0
        if segment.iscrowd:
            return None
        if self.labels[label].is_thing:
            return label, key
        return (label, 0) if task == "panoptic" else None

    def segments(self, entry: CocoImage, task: Task) -> Segments:
        """Returns the segments of an image."""
        if entry.ids is not None:
            return self.segments_of_png(entry, entry.ids, task)
        masks: dict[tuple[int, int], Bool[np.ndarray, "height width"]] = {}
        for number, found in enumerate(entry.segments):
            assert isinstance(found, CocoObject)
            if (segment := self.segment_of(found, number, task)) is not None:
                mask = decode_rle(outline_counts(found.outline, entry.size), entry.size)
                masks[segment] = masks[segment] | mask if segment in masks else mask
        labels = np.array([label for label, _ in masks], np.int32)
        return Segments.from_masks(masks.values(), labels, entry.size)

    def segments_of_png(self, entry: CocoImage, path: Path, task: Task) -> Segments:
        """Returns the segments of an image of a panoptic file."""
        infos = {info.id: info for info in entry.segments}
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
    invalid: Invalid = "refuse",
    categories: Sequence[Label] | None = None,
) -> CocoDataset:
    """Returns the images of a COCO annotation file with their ground truth.

    Args:
        annotations: the file, of objects (instances_*.json) or of panoptic segments.
        images: the folder of the images.
        task: see `TrainingSet`; a file of objects has no stuff to learn for "panoptic".
        labels: the classes to learn, whose names are those of categories; None for all categories
            (for the instance task, things), in order of their ids.
        maps: the folder of a panoptic file's PNGs; None for the one beside it, of its name.
        invalid: what becomes of objects that can't be used, see `read_coco_file`.
        categories: the classes of a published data set, which replace the file's of the same ids,
            whatever their names there; None for the file's own.

    Raises:
        FileNotFoundError: the annotation file is missing.
        ValueError: as `read_coco_file` and `with_categories`, or the file has categories that the
            labels lack.
    """
    file = read_coco_file(annotations, invalid)
    if categories is not None:
        file = with_categories(file, categories)
    maps = annotations.with_suffix("") if maps is None else maps
    if nameless := [image.id for image in file.images if image.file_name is None]:
        raise ValueError(f"{annotations}: image {nameless[0]} has no file_name")
    objects: dict[int | str, list[CocoObject]] = {image.id: [] for image in file.images}
    for found in file.objects:
        objects[found.image_id].append(found)
    entries = []
    for image in sorted(file.images, key=lambda image: image.id):
        name = image.file_name or ""
        png = None if file.panoptic is None else file.panoptic[image.id]
        segments = tuple(objects[image.id]) if png is None else png.segments
        ids = None if png is None else maps / png.file_name
        entries.append(CocoImage(image.id, name, images / name, image.size, segments, ids))

    wanted = sorted(file.categories, key=lambda label: label.id)
    if task == "instance":
        wanted = [label for label in wanted if label.is_thing]
    learned = tuple(wanted if labels is None else labels)
    names = {label.name: label.id for label in file.categories}
    classes: dict[int, int | None] = dict(class_indices(learned, names, annotations))
    used = file.used
    extra = [label for label in wanted if label.id in used and label.id not in classes]
    if extra:
        raise ValueError(
            f"{annotations} has objects of {len(extra)} classes that the model lacks: "
            f"{', '.join(label.name for label in extra[:5])}; they would be learned as background. "
            "Give the model these classes, or remove the objects"
        )
    return CocoDataset(
        annotations=annotations,
        file=file,
        images=tuple(entries),
        labels=learned,
        task=task,
        categories=file.categories,
        classes={label.id: classes.get(label.id) for label in file.categories},
    )


def with_categories(file: CocoFile, categories: Sequence[Label]) -> CocoFile:
    """Returns a file with the classes of a published data set in place of its own, by their ids.

    Some classes have other names in published files than in the models trained on them.

    Raises:
        ValueError: an id that the file uses isn't one of them, or the file numbers them otherwise.
    """
    ids = {label.id for label in categories}
    if unknown := sorted(file.used - ids):
        raise ValueError(
            f"{file.where} has segments of the category {unknown[0]}, which isn't one of the "
            f"{len(categories)} of this data set"
        )
    named = {label.name: label for label in categories}
    for label in file.categories:
        ours = named.get(label.name.strip())
        if ours is not None and ours.id != label.id:
            raise ValueError(
                f"{file.where}: {ours.name} is the category {label.id}, and in this data set "
                f"{ours.id}; make the file with the authors' script"
            )
    return dataclasses.replace(file, categories=tuple(categories))
