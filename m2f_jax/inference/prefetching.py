"""The pipeline of many images: threads read ahead of the devices and finish behind them."""

import collections
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from m2f_jax.config import Task

Job = TypeVar("Job")
Input = TypeVar("Input")
Outcome = TypeVar("Outcome")

AHEAD = 2  # batches that are on the devices at a time
READERS = 4  # threads; PIL and numpy release the interpreter's lock while they work
QUEUED = 4  # inputs read ahead, and segmentations waiting to be finished, for each image at a time

Reduce = Callable[[Any, Any], Any]
"""A pure function that runs on the device in place of fetching a segmentation.

It takes post-processing's result (`postprocess.Instances`, `postprocess.Panoptic` or a semantic
map, on the canvas) and `Prepared.extra`, and returns a tree of arrays, which are fetched instead.
"""


@dataclass(frozen=True)
class Pending:
    """A handle of a segmentation that the device is working on."""

    result: Callable[[], Any]
    """A function that waits for the device and returns the segmentation, or a `Reduce`'s arrays."""


@runtime_checkable
class Submits(Protocol):
    """What a pipeline needs: a `Segmenter`, or anything else with its `capacity` and `submit`."""

    @property
    def capacity(self) -> int:
        """The number of images that `submit` takes at a time."""
        ...

    @property
    def submit(self) -> Callable[..., list[Pending]]:
        """A function as `Segmenter.submit`."""
        ...


def run_pipeline(
    segmenter: Submits,
    task: Task | None,
    jobs: Iterable[Job],
    read: Callable[[Job], tuple[Any, Input]],
    finish: Callable[[Job, Input, Any], Outcome],
    **options: Any,
) -> Generator[tuple[Job, Outcome | Exception], None, None]:
    """Yields each job in order, with what `finish` returned for it or the error that it raised.

    Args:
        segmenter: a `Segmenter`, an `ExportedSegmenter` or the like.
        task: as for `Segmenter.submit`.
        jobs: one for each image.
        read: returns a job's image, from the segmenter's `prepare`, and anything else that `finish`
            needs; runs in threads, ahead of the devices.
        finish: takes the job, the second value of `read`, and the segmentation (or what `reduce`
            returned); runs in a thread, behind the devices.
        options: further arguments of the segmenter's `submit`.
    """
    capacity = segmenter.capacity
    readers, finisher = ThreadPoolExecutor(READERS), ThreadPoolExecutor(1)
    try:
        started: collections.deque[tuple[Job, Future, Pending | None]] = collections.deque()
        ending: collections.deque[tuple[Job, Future]] = collections.deque()

        def collect():
            job, reading, pending = started.popleft()
            if pending is None:  # it failed on the way to the device
                ending.append((job, reading))
                return
            segmentation = pending.result()
            extra = reading.result()[1]
            ending.append((job, finisher.submit(finish, job, extra, segmentation)))

        reads = _read_ahead(readers, jobs, read, QUEUED * capacity)
        for batch in batches(reads, capacity, _bucket):
            if batch[0][1].exception() is not None:
                started.extend((job, reading, None) for job, reading in batch)
            else:
                images = [reading.result()[0] for _, reading in batch]
                pending = segmenter.submit(images, task, **options)
                started.extend((*pair, p) for pair, p in zip(batch, pending, strict=True))
            while len(started) > (AHEAD - 1) * capacity:
                collect()
            while ending and (len(ending) > QUEUED * capacity or ending[0][1].done()):
                yield _outcome(*ending.popleft())
        while started:
            collect()
        while ending:
            yield _outcome(*ending.popleft())
    finally:  # without waiting: left early, it may be closed in one of these threads
        for pool in (readers, finisher):
            pool.shutdown(wait=False, cancel_futures=True)


def batches(items: Iterable[Any], size: int, key: Callable[[Any], Any]) -> Iterator[list[Any]]:
    """Yields lists of neighbours with the same key, up to `size` in each."""
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


def _bucket(pair: tuple[Any, Future]) -> Any:
    """Returns the bucket of an image that was read; None for one that can't be read."""
    _, reading = pair
    return None if reading.exception() is not None else reading.result()[0].bucket


def _read_ahead(
    readers: ThreadPoolExecutor, jobs: Iterable[Job], read: Callable[[Job], Any], queued: int
) -> Iterator[tuple[Job, Future]]:
    waiting: collections.deque[tuple[Job, Future]] = collections.deque()
    for job in jobs:
        waiting.append((job, readers.submit(read, job)))
        if len(waiting) > queued:
            yield waiting.popleft()
    yield from waiting


def _outcome(job: Job, future: "Future[Outcome]") -> tuple[Job, Outcome | Exception]:
    try:
        return job, future.result()
    except (ValueError, OSError) as error:
        return job, error
