"""Training data of images with maps of ids, in Cityscapes' way of numbering.

A pixel of object k of a class has the id 1000 x class id + k; the plain class id stands for stuff,
and for things too close together to be told apart (a group).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int

from m2f_jax.config import Task
from m2f_jax.datasets.examples import Example, Segments, check_same_size
from m2f_jax.images import image_size, read_ids, read_image
from m2f_jax.labels import Label

FIRST_OBJECT = 1000


@dataclass(frozen=True)
class IdMapExamples:
    """Images with maps of ids, as a sequence of examples.

    Attributes:
        files: image and map of ids of every example.
        labels: the classes to learn.
        task: what the segments are, see `Examples`.
        classes: class index by class id; None for classes that are known and not learned.
    """

    files: tuple[tuple[Path, Path], ...]
    labels: tuple[Label, ...]
    task: Task
    classes: Mapping[int, int | None]

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Example:
        """The example at an index.

        Raises:
            FileNotFoundError, ValueError: as `check`.
        """
        path, ids_path = self.files[index]
        image, segments = read_image(path), self.segments(ids_path)
        check_same_size(path, image.shape[:2], str(ids_path), segments.regions.shape)
        return Example(image, segments)

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """The number of segments of each class.

        Raises:
            FileNotFoundError: a file is missing.
            ValueError: a file is damaged, has unknown ids, or the sizes differ.
        """
        path, ids_path = self.files[index]
        size = image_size(path)
        segments = self.segments(ids_path)
        check_same_size(path, size, str(ids_path), segments.regions.shape)
        return np.bincount(segments.labels, minlength=len(self.labels))

    def segments(self, path: Path) -> Segments:
        """The segments of a map of ids."""
        unknown: Counter[int] = Counter()

        def segment_of(id_: int) -> tuple[int, int] | None:
            """Its class index; and its id if it is an object of its own."""
            class_id = id_ // FIRST_OBJECT if id_ >= FIRST_OBJECT else id_
            if class_id not in self.classes:
                unknown[class_id] += 1
            label = self.classes.get(class_id)
            if label is None:
                return None
            if self.task == "semantic":
                return label, 0
            if self.labels[label].is_thing:
                return (label, id_) if id_ >= FIRST_OBJECT else None
            return (label, 0) if self.task == "panoptic" else None

        segments = Segments.from_ids(read_ids(path), segment_of)
        if unknown:
            known = ", ".join(map(str, sorted(self.classes)))
            raise ValueError(
                f"{path} has pixels of the unknown class "
                f"{', '.join(map(str, sorted(unknown)[:5]))}; known class ids are {known}, and "
                f"object k of a class has the id {FIRST_OBJECT} x class id + k"
            )
        return segments
