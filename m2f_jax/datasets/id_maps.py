"""Images with maps of ids, numbered in Cityscapes' way.

A pixel of object k of a class has the id 1000 x class id + k; the plain class id stands for stuff,
and for things too close together to be told apart (a group).
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Int

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import check_same_size
from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.images import image_size, read_ids, read_image
from m2f_jax.labels import Label

FIRST_OBJECT = 1000


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
    """Images with maps of ids. Groups of things are nothing: what is found there is wrong.

    Attributes:
        title: what it is, for reports.
        images: the files.
        labels: the classes to learn.
        task: what the segments are, see `TrainingSet`.
        classes: class index by class id; None for classes that are known and not learned.
    """

    title: str
    images: tuple[IdMapImage, ...]
    labels: tuple[Label, ...]
    task: Task
    classes: Mapping[int, int | None]

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
        """The example at an index.

        Raises:
            FileNotFoundError, ValueError: as `check`.
        """
        files = self.images[index]
        image, segments = read_image(files.image), self.ground_truth(index, self.task)
        check_same_size(files.image, image.shape[:2], str(files.ids), segments.regions.shape)
        return Example(image, segments)

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """The number of segments of each class that have a pixel.

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
        """The image and its map of ids."""
        del task
        return self.images[index].image, self.images[index].ids

    def ground_truth(self, index: int, task: Task) -> Segments:
        """The segments of an image's map of ids.

        Raises:
            FileNotFoundError: the map is missing.
            ValueError: it is damaged or has unknown ids.
        """
        path = self.images[index].ids
        unknown: Counter[int] = Counter()

        def segment_of(id_: int) -> tuple[int, int] | None:
            """Class index and number of the segment of an id; None if it isn't learned."""
            class_id = id_ // FIRST_OBJECT if id_ >= FIRST_OBJECT else id_
            if class_id not in self.classes:
                unknown[class_id] += 1
            label = self.classes.get(class_id)
            if label is None:
                return None
            if task == "semantic":
                return label, 0
            if self.labels[label].is_thing:
                return (label, id_) if id_ >= FIRST_OBJECT else None
            return (label, 0) if task == "panoptic" else None

        segments = Segments.from_ids(read_ids(path), segment_of)
        if unknown:
            known = ", ".join(map(str, sorted(self.classes)))
            raise ValueError(
                f"{path} has pixels of the unknown class "
                f"{', '.join(map(str, sorted(unknown)[:5]))}; known class ids are {known}, and "
                f"object k of a class has the id {FIRST_OBJECT} x class id + k"
            )
        return segments
