"""What every set of training data yields, an image with its segments, and a check of its files.

The segments of an image are kept as regions: every pixel has the number of one region, and a table
says which segments a region is part of. So a crop or a resize handles one map, however many
segments there are, and segments may overlap.

Axes: N segments, R regions, K classes.
"""

import os
from collections.abc import Callable, Hashable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer, UInt8

from m2f_jax.config import Task
from m2f_jax.labels import Label

SHOWN = 5  # faulty files in one message


class Segments(NamedTuple):
    """The segments of one image; region 0 is part of none of them."""

    regions: Int32[np.ndarray, "height width"]
    members: Bool[np.ndarray, "N R"]
    labels: Int32[np.ndarray, "N"]  # class indices

    @classmethod
    def from_ids(
        cls,
        ids: Integer[np.ndarray, "height width"],
        segment_of: Callable[[int], tuple[int, Hashable] | None],
    ) -> "Segments":
        """Segments that don't overlap, from a map of ids.

        Args:
            ids: with at least one pixel.
            segment_of: says for an id which segment it is: its class index, and what tells it from
                others of the class; None if it is none.
        """
        # Pixels in a row are mostly the same: what takes time is done once per run of them.
        flat = ids.ravel()
        starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
        present, of_run = np.unique(flat[starts], return_inverse=True)
        numbers: dict[tuple[int, Hashable], int] = {}  # region by segment
        table = np.zeros(len(present), np.int32)
        for i, id_ in enumerate(present.tolist()):
            if (segment := segment_of(id_)) is not None:
                table[i] = numbers.setdefault(segment, len(numbers) + 1)
        lengths = np.diff(starts, append=len(flat))
        regions = np.repeat(table[of_run], lengths).reshape(ids.shape)
        members = np.eye(len(numbers), len(numbers) + 1, 1, dtype=bool)
        return cls(regions, members, np.array([label for label, _ in numbers], np.int32))

    @classmethod
    def from_masks(
        cls,
        masks: Iterable[Bool[np.ndarray, "height width"]],
        labels: Int32[np.ndarray, "N"],
        size: tuple[int, int],
    ) -> "Segments":
        """Segments that may overlap, from a mask and a class index of each."""
        regions = np.zeros(size, np.int32)
        owners: list[tuple[int, ...]] = [()]  # of each region
        for k, mask in enumerate(masks):
            below = regions[mask]
            covered, inverse = np.unique(below, return_inverse=True)
            regions[mask] = len(owners) + inverse
            owners += [(*owners[region], k) for region in covered.tolist()]
        visible = np.union1d(0, regions)  # the others were divided, down to nothing
        table = np.zeros(len(owners), np.int32)
        table[visible] = np.arange(len(visible))
        members = np.zeros((len(labels), len(visible)), bool)
        for column, region in enumerate(visible.tolist()):
            members[list(owners[region]), column] = True
        return cls(table[regions], members, labels)

    @property
    def areas(self) -> Int[np.ndarray, "N"]:
        """The number of pixels of each segment."""
        return self.members @ np.bincount(self.regions.ravel(), minlength=self.members.shape[1])

    @property
    def masks(self) -> Bool[np.ndarray, "N height width"]:
        """The segments one by one."""
        return self.members[:, self.regions]


class Example(NamedTuple):
    """An image to learn from, and the segments in it."""

    image: UInt8[np.ndarray, "height width 3"]
    segments: Segments


@runtime_checkable
class Examples(Protocol):
    """A set of training data.

    Attributes:
        labels: the classes, in the order of the class indices.
        task: what its segments are. For "instance", every thing, without groups; for "panoptic",
            also the stuff, a segment per class; for "semantic", a segment per class.
    """

    @property
    def labels(self) -> tuple[Label, ...]: ...

    @property
    def task(self) -> Task: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...

    def check(self, index: int, /) -> Int[np.ndarray, "K"]:
        """Reads the ground truth of an image, and of the image the size.

        Returns:
            The number of segments of each class.

        Raises:
            OSError, ValueError: something is wrong; the message names the file.
        """
        ...


@dataclass(frozen=True)
class Selection:
    """Some of the images of a set, such as those that hold an object."""

    examples: Examples
    indices: tuple[int, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes."""
        return self.examples.labels

    @property
    def task(self) -> Task:
        """What the segments are."""
        return self.examples.task

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.examples[self.indices[index]]

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """As the whole set's."""
        return self.examples.check(self.indices[index])


def check_examples(
    examples: Examples,
    progress: Callable[[int, int], None] | None = None,
    threads: int | None = None,
) -> Int[np.ndarray, "images K"]:
    """Reads the ground truth of all images, so that no fault shows up in the middle of a training.

    Args:
        examples: the data.
        progress: called with (k, n) when k of the n images are done, from 0 on.
        threads: how many images are read at the same time; None for one per processor.

    Returns:
        The number of segments of each class in every image.

    Raises:
        ValueError: files are faulty, and the message names the first ones with what to do; or there
            are no segments at all.
    """
    counts = np.zeros((len(examples), len(examples.labels)), int)
    faults: list[str] = []

    def check(index: int) -> str | None:
        try:
            counts[index] = examples.check(index)
        except (OSError, ValueError) as error:
            return str(error)
        return None

    if progress:
        progress(0, len(examples))
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for done, fault in enumerate(pool.map(check, range(len(examples))), start=1):
            if fault is not None:
                faults.append(fault)
            if progress:
                progress(done, len(examples))
    if faults:
        shown = "\n  ".join(faults[:SHOWN])
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(
            f"{len(faults)} of the {len(examples)} images can't be trained on:\n  {shown}{more}"
        )
    if not counts.any():
        raise ValueError(
            f"none of the {len(examples)} images holds a segment of a class to learn for the "
            f"{examples.task} task ({', '.join(label.name for label in examples.labels[:SHOWN])}"
            f"{' ...' if len(examples.labels) > SHOWN else ''})"
        )
    return counts


def with_segments(examples: Examples, counts: Int[np.ndarray, "images K"]) -> Selection:
    """The images that hold a segment; the authors leave out the others for instances.

    Args:
        examples: the data.
        counts: what `check_examples` found in it.
    """
    return Selection(examples, tuple(np.flatnonzero(counts.any(axis=1)).tolist()))


def check_same_size(image: Path, size: tuple[int, int], truth: str, truth_size: tuple[int, int]):
    """Refuses an image and a ground truth of different sizes.

    Raises:
        ValueError: naming both.
    """
    if size != truth_size:
        raise ValueError(
            f"{image} is {size[0]} x {size[1]} (height x width, upright), but {truth} is "
            f"{truth_size[0]} x {truth_size[1]}; they must be equal"
        )


def class_indices(
    labels: Iterable[Label], names: Mapping[str, int], source: Path
) -> dict[int, int]:
    """The class index of every class id of a data set, matched by name, whose spelling must agree.

    Args:
        labels: the model's classes.
        names: class id by name in the data.
        source: the file that says so.

    Raises:
        ValueError: a class of the model isn't in the data.
    """
    labels = tuple(labels)
    unknown = [label.name for label in labels if label.name not in names]
    if unknown:
        raise ValueError(
            f"{source} lacks {len(unknown)} of the model's {len(labels)} classes: "
            f"{', '.join(unknown[:SHOWN])}; its own are {', '.join(list(names)[:SHOWN])}"
            f"{' ...' if len(names) > SHOWN else ''}"
        )
    return {names[label.name]: index for index, label in enumerate(labels)}
