"""Images with maps of ids, numbered in Cityscapes' way.

A pixel of object k of a class has the id 1000 x class id + k; the plain class id stands for stuff,
and for things too close together to be told apart (a group).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import check_same_size, only_semantic
from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.images import image_size, read_ids, read_image
from m2f_jax.labels import Label

FIRST_OBJECT = 1000
IMAGE_ENDINGS = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class IdMapImage:
    """One image with its map of ids."""

    image: Path
    ids: Path

    @property
    def name(self) -> str:
        """The name of the file without its ending."""
        return self.image.stem

    @property
    def id(self) -> str:
        """The name."""
        return self.name


@dataclass(frozen=True, eq=False)
class IdMapDataset:
    """Images with maps of ids. Groups of things count as nothing, so predictions there are wrong.

    Attributes:
        title: its name in reports.
        images: the files.
        labels: the classes to learn.
        task: what the segments are, see `TrainingSet`.
        classes: class index by class id; None for classes that are known and not learned.
        objects: whether ids from `FIRST_OBJECT` on are objects. If not, every id is a class, and
            the only task is "semantic".
    """

    title: str
    images: tuple[IdMapImage, ...]
    labels: tuple[Label, ...]
    task: Task
    classes: Mapping[int, int | None]
    objects: bool = True

    @property
    def rules(self) -> Literal["coco"]:
        """COCO's metrics."""
        return "coco"

    @property
    def categories(self) -> tuple[Label, ...]:
        """The classes to learn: the others count as nothing."""
        return self.labels

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Example:
        """Returns the example at an index.

        Raises:
            FileNotFoundError, ValueError: as `check`.
        """
        files = self.images[index]
        image, segments = read_image(files.image), self.ground_truth(index, self.task)
        check_same_size(files.image, image.shape[:2], str(files.ids), segments.regions.shape)
        return Example(image, segments)

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """Returns the number of segments of each class that have a pixel.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, has unknown ids, or the sizes differ.
        """
        files = self.images[index]
        size = image_size(files.image)
        segments = self.ground_truth(index, self.task)
        check_same_size(files.image, size, str(files.ids), segments.regions.shape)
        return np.bincount(segments.labels, minlength=len(self.labels))

    def files(self, index: int, task: Task) -> Sequence[Path]:
        """Returns the image and its map of ids."""
        del task
        return self.images[index].image, self.images[index].ids

    def ground_truth(self, index: int, task: Task) -> Segments:
        """Returns the segments of an image's map of ids.

        Raises:
            FileNotFoundError: the map is missing.
            ValueError: it is damaged, has unknown ids or too few bits for its classes, or there are
                no objects for the task.
        """
        if not self.objects:
            only_semantic(task, f"this ground truth of {self.title}")
        path = self.images[index].ids
        unknown: set[int] = set()

        def segment_of(id_: int) -> tuple[int, int] | None:
            """Returns class index and number of an id's segment; None if it isn't learned."""
            class_id = id_ // FIRST_OBJECT if self.objects and id_ >= FIRST_OBJECT else id_
            if class_id not in self.classes:
                unknown.add(class_id)
            label = self.classes.get(class_id)
            if label is None:
                return None
            if task == "semantic":
                return label, 0
            if self.labels[label].is_thing:
                return (label, id_) if id_ >= FIRST_OBJECT else None
            return (label, 0) if task == "panoptic" else None

        bits = 8 if self.objects or max(self.classes) < 256 else 16
        segments = Segments.from_ids(read_ids(path, bits=bits), segment_of)
        if unknown:
            rule = f", and object k of a class has the id {FIRST_OBJECT} x class id + k"
            raise ValueError(
                f"{path} has pixels of the unknown class "
                f"{', '.join(map(str, sorted(unknown)[:5]))}; known class ids are "
                f"{ranges(self.classes)}{rule if self.objects else ''}"
            )
        return segments


def ranges(numbers: Iterable[int]) -> str:
    """Returns numbers as a text of ranges, such as "0 to 149, 255"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"{run[0]} to {run[-1]}" if len(run) > 2 else ", ".join(map(str, run)) for run in runs
    )


def image_pairs(images: Path, maps: Path, ending: str = ".png") -> tuple[IdMapImage, ...]:
    """Pairs every image with the map of its name.

    Raises:
        FileNotFoundError: a folder is missing, an image or a map is alone, or there are none.
        ValueError: two images have the same name.
    """
    for folder in (images, maps):
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is missing")
    paths = sorted(path for path in images.iterdir() if path.suffix.lower() in IMAGE_ENDINGS)
    if not paths:
        raise FileNotFoundError(f"{images} holds no image ({', '.join(IMAGE_ENDINGS)})")
    by_name = {path.stem: path for path in paths}
    for path in paths:
        if by_name[path.stem] != path:
            raise ValueError(
                f"{path} and {by_name[path.stem]} would share {path.stem}{ending}; rename one of "
                "them"
            )
    by_map = {path.stem: path for path in maps.glob(f"*{ending}")}
    if alone := sorted(set(by_name) - set(by_map)):
        raise FileNotFoundError(
            f"{len(alone)} of {len(by_name)} images have no map of ids, the first missing one is "
            f"{maps / alone[0]}{ending}"
        )
    if alone := sorted(set(by_map) - set(by_name)):
        raise FileNotFoundError(
            f"{len(alone)} maps of ids have no image in {images}, the first one is "
            f"{by_map[alone[0]]}"
        )
    return tuple(IdMapImage(by_name[name], by_map[name]) for name in sorted(by_name))
