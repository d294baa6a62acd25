"""Reads every image of a data set beforehand, so that no training run stops at a faulty file."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int

from m2f_jax.config import Task
from m2f_jax.datasets.dataset import SHOWN, TrainingSet
from m2f_jax.datasets.examples import Example
from m2f_jax.labels import Label

T = TypeVar("T")
Progress = Callable[[int, int], None]


class Contents(NamedTuple):
    """The numbers of segments of each class, of one image or of several."""

    counts: Int[np.ndarray, "*images K"]  # of those that have a pixel
    without_pixels: Int[np.ndarray, "*images K"]  # of the others, which teach nothing


@dataclass(frozen=True)
class Selection:
    """Some of the images of a training set, such as those with objects.

    Attributes:
        whole: the set.
        indices: those of the images.
    """

    whole: TrainingSet
    indices: tuple[int, ...]

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes."""
        return self.whole.labels

    @property
    def task(self) -> Task:
        """What the segments are."""
        return self.whole.task

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.whole[self.indices[index]]

    def check(self, index: int) -> Int[np.ndarray, "K"]:
        """Checks as `whole.check`."""
        return self.whole.check(self.indices[index])


def with_segments(examples: TrainingSet, counts: Int[np.ndarray, "images K"]) -> Selection:
    """Returns the images with segments; the authors train instances on these alone.

    Args:
        examples: the data.
        counts: segments of each class in every image, from `check_examples`.
    """
    return Selection(examples, tuple(np.flatnonzero(counts.any(axis=1)).tolist()))


def read_contents(examples: TrainingSet, index: int) -> Contents:
    """Reads the whole image and its ground truth, and counts its segments.

    Raises:
        OSError, ValueError: something is wrong; the message names the file, or the image's index.
    """
    examples.check(index)  # which may find more, such as a PNG whose end is missing
    image, segments = examples[index]
    if image.shape[:2] != segments.regions.shape:
        raise ValueError(
            f"example {index} has an image of {image.shape[:2]} and segments of "
            f"{segments.regions.shape}; they must be equal"
        )
    visible, classes = segments.visible, len(examples.labels)
    return Contents(
        np.bincount(segments.labels[visible], minlength=classes),
        np.bincount(segments.labels[~visible], minlength=classes),
    )


def check_examples(
    examples: TrainingSet,
    progress: Progress | None = None,
    threads: int | None = None,
    check: Callable[[int], Contents] | None = None,
) -> Contents:
    """Reads all images and their ground truth.

    Args:
        examples: the data.
        progress: called with (k, n) when k of the n images are done, from 0 on.
        threads: how many images are read at the same time; None for one per processor.
        check: reads the image at an index; by default by `read_contents`.

    Returns:
        The contents of every image.

    Raises:
        ValueError: files are faulty, and the message names the first ones with what to do; or there
            are no segments at all.
    """
    check = check or (lambda index: read_contents(examples, index))
    found = check_images(len(examples), check, progress, threads)
    classes = len(examples.labels)
    contents = Contents(
        np.array([one.counts for one in found], int).reshape(-1, classes),
        np.array([one.without_pixels for one in found], int).reshape(-1, classes),
    )
    if not contents.counts.any():
        raise ValueError(
            f"none of the {len(examples)} images holds a segment of a class to learn for the "
            f"{examples.task} task ({', '.join(label.name for label in examples.labels[:SHOWN])}"
            f"{' ...' if len(examples.labels) > SHOWN else ''})"
        )
    return contents


def check_images(
    count: int,
    check: Callable[[int], T],
    progress: Progress | None = None,
    threads: int | None = None,
) -> Sequence[T]:
    """Calls `check` with the indices of all images, in threads, and returns the results.

    Args:
        count: the number of images.
        check: reads the image at an index.
        progress: as of `check_examples`.
        threads: as of `check_examples`.

    Raises:
        ValueError: `check` raised an OSError or a ValueError; the message has the first ones.
    """
    faults: list[str] = []

    def outcome(index: int) -> T | Exception:
        try:
            return check(index)
        except (OSError, ValueError) as error:
            return error

    found: list[T] = []
    if progress:
        progress(0, count)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        for done, one in enumerate(pool.map(outcome, range(count)), start=1):
            if isinstance(one, Exception):
                faults.append(str(one))
            else:
                found.append(one)
            if progress:
                progress(done, count)
    if faults:
        shown = "\n  ".join(faults[:SHOWN])
        more = f"\n  and {len(faults) - SHOWN} more" if len(faults) > SHOWN else ""
        raise ValueError(f"{len(faults)} of the {count} images can't be used:\n  {shown}{more}")
    return found
