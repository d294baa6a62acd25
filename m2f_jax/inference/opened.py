"""A model that is ready to segment images, with the facts that identify its results."""

from typing import Any, NamedTuple

from m2f_jax.config import Task
from m2f_jax.labels import Label


class OpenedModel(NamedTuple):
    """A segmenter together with the task to run, and the facts that identify its results.

    Attributes:
        segmenter: a `Segmenter`, or anything with its `prepare` and `submit`.
        task: the task to run.
        labels: the classes, in the order of the class indices.
        dtype: of the computation.
        top_k: the most instances; None where an exported program fixes it.
        weights: the digest of the weights.
        processor: the processor's settings as text.
    """

    segmenter: Any
    task: Task
    labels: tuple[Label, ...]
    dtype: str
    top_k: int | None
    weights: str
    processor: str
