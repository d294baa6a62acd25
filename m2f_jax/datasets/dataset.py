"""The interfaces of a data set, for training and for evaluation.

Training reads a `TrainingSet`. Evaluation reads a `Dataset`, which also returns the ground truth in
the form that its metrics take. Nothing needs to be registered: `m2f_jax.training.data.batches` and
`m2f_jax.eval.evaluate` take any object with these members, so also a data set of your own.

Axes: K classes.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int, Int32, Integer

from m2f_jax.config import Task
from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.labels import Label

SHOWN = 5  # faulty files in one message


@runtime_checkable
class TrainingSet(Protocol):
    """A sequence of training examples.

    Attributes:
        labels: the classes, in the order of the class indices.
        task: what the segments are. For "instance", every thing, without groups; for "panoptic",
            also the stuff, a segment per class; for "semantic", a segment per class.
    """

    @property
    def labels(self) -> tuple[Label, ...]: ...

    @property
    def task(self) -> Task: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Example: ...

    def check(self, index: int, /) -> Int[np.ndarray, "K"]:
        """Reads the ground truth of an image and compares the sizes, without decoding the image.

        Returns:
            The number of segments of each class that have a pixel.

        Raises:
            OSError, ValueError: something is wrong; the message names the file.
        """
        ...


@runtime_checkable
class DatasetImage(Protocol):
    """One image of a data set."""

    @property
    def name(self) -> str:
        """A name that is unique in the data set, and valid as a file name without ending."""
        ...

    @property
    def id(self) -> int | str:
        """Its id in exported predictions."""
        ...

    @property
    def image(self) -> Path:
        """Its file."""
        ...


class CityscapesTruth(NamedTuple):
    """The ground truth of an image in Cityscapes' numbering."""

    instance_ids: Integer[np.ndarray, "height width"]
    label_ids: Integer[np.ndarray, "height width"] | None
    """Only for the semantic task."""


class PanopticTruth(NamedTuple):
    """The ground truth of an image as COCO's panoptic files have it."""

    segment_map: Int32[np.ndarray, "height width"]
    segments: Sequence[Mapping[str, Any]]
    """With "id", "category_id" and "iscrowd" as in `segments_info`."""


GroundTruth = Segments | PanopticTruth | CityscapesTruth


@runtime_checkable
class Dataset(TrainingSet, Protocol):
    """A training set that can be evaluated on.

    Attributes:
        title: its name in reports, such as its folder and split.
        categories: all classes of the ground truth, with the ids that predictions have in files.
            A model's classes are matched with them by name.
        rules: whose metrics are used: "cityscapes" (instance AP, PQ and mIoU with iIoU), "coco"
            (mask AP, PQ and mIoU), "lvis" (mask AP by its rules; else COCO's) or "youtubevis"
            (track AP).
        images: the image of every example.
    """

    @property
    def title(self) -> str: ...

    @property
    def categories(self) -> tuple[Label, ...]: ...

    @property
    def rules(self) -> Literal["cityscapes", "coco", "lvis", "youtubevis"]: ...

    @property
    def images(self) -> Sequence[Any]: ...

    def ground_truth(self, index: int, task: Task, /) -> GroundTruth:
        """Returns the ground truth of an image.

        It is a `CityscapesTruth` for Cityscapes' metrics. For COCO's it is `Segments`, whose labels
        are indices of `categories`, or for the panoptic task a `PanopticTruth`.

        Raises:
            OSError, ValueError: something is wrong; the message names the file.
        """
        ...

    def files(self, index: int, task: Task, /) -> Sequence[Path]:
        """Returns the files of an image and its ground truth, all read anew if one changes."""
        ...


def check_same_size(image: Path, size: tuple[int, int], truth: str, truth_size: tuple[int, int]):
    """Refuses an image and a ground truth of different sizes (height, width).

    Raises:
        ValueError: the message names both.
    """
    if size != truth_size:
        raise ValueError(
            f"{image} is {size[0]} x {size[1]} (height x width, upright), but {truth} is "
            f"{truth_size[0]} x {truth_size[1]}; they must be equal"
        )


def class_indices(
    labels: Iterable[Label], names: Mapping[str, int], source: Path
) -> dict[int, int]:
    """Returns the class index of every class id of a data set, matched by their exact names.

    Args:
        labels: the model's classes.
        names: class id by name in the data.
        source: the file with these names, for messages.

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


def chosen_labels(
    labels: Sequence[Label] | None, known: Sequence[Label], name: str
) -> tuple[Label, ...]:
    """Returns the classes to learn of a published data set: all known ones, or those chosen.

    Args:
        labels: the choice, by the data set's ids and names; None for all.
        known: the data set's classes.
        name: of the data set, for messages.

    Raises:
        ValueError: a class isn't a known one.
    """
    if labels is None:
        return tuple(known)
    ours = {(label.id, label.name) for label in known}
    foreign = [label.name for label in labels if (label.id, label.name) not in ours]
    if foreign:
        raise ValueError(
            f"{len(foreign)} of the {len(labels)} classes to learn aren't those of {name}: "
            f"{', '.join(foreign[:SHOWN])}"
        )
    return tuple(labels)


def only_semantic(task: Task, name: str):
    """Refuses other tasks than "semantic", for data without objects.

    Raises:
        ValueError: the message names the data.
    """
    if task != "semantic":
        raise ValueError(
            f"{name} has maps of classes, without objects, and serves the semantic task alone, not "
            f"{task}"
        )
