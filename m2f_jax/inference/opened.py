"""A model that is ready to segment images, and what identifies its results."""

from typing import Any, NamedTuple

from m2f_jax.config import Task
from m2f_jax.labels import Label


class OpenedModel(NamedTuple):
    """A segmenter together with the task to run, and what identifies it."""

    segmenter: Any
    task: Task
    labels: tuple[Label, ...]
    dtype: str
    top_k: int | None  # None where the exported program fixes it
    weights: str  # a digest
    processor: str
