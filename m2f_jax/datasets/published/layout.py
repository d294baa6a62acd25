"""The facts by which a published data set is recognized and opened."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2f_jax.config import Task
from m2f_jax.datasets.coco_format.faults import Invalid
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.labels import Label

Opener = Callable[[Path, str, Task, Sequence[Label] | None, Invalid], Dataset]
"""Opens a split for a task: root, split, task, labels and invalid as of `open_dataset`."""


@dataclass(frozen=True, kw_only=True)
class DatasetLayout:
    """How a published data set lies in its folder.

    Attributes:
        title: its name in messages.
        images: the folder of images of each split; one of them is enough to recognize the layout.
        expected: all folders and files that it needs, for messages.
        open: opens a split.
    """

    title: str
    images: Mapping[str, str]
    expected: str
    open: Opener

    def is_at(self, root: Path) -> bool:
        """Returns whether a folder has this layout."""
        return any((root / folder).is_dir() for folder in self.images.values())
