"""Many images through the devices: batches of neighbours, and results that aren't there yet."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

AHEAD = 2  # batches that are on the devices at a time

# A pure function of what post-processing leaves on the device (`postprocess.Instances`, `Panoptic`
# or a semantic map, on the canvas) and of `Prepared.extra`, to whatever is wanted of them.
Reduce = Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Pending:
    """A segmentation that the device is working on."""

    result: Callable[[], Any]
    """Waits for the device and returns the segmentation, or what a `Reduce` made of it."""


@runtime_checkable
class Submits(Protocol):
    """A `Segmenter`, or what works like one."""

    @property
    def capacity(self) -> int:
        """How many images it takes at a time."""
        ...

    @property
    def submit(self) -> Callable[..., list[Pending]]:
        """As `Segmenter.submit`."""
        ...


def batches(items: Iterable[Any], size: int, key: Callable[[Any], Any]) -> Iterator[list[Any]]:
    """Neighbours of the same key, up to `size` at a time."""
    batch: list[Any] = []
    for item in items:
        if batch and key(item) != key(batch[0]):
            yield batch
            batch = []
        batch.append(item)
        if len(batch) == size:  # at once, not when the next item has come
            yield batch
            batch = []
    if batch:
        yield batch
