"""A pipeline over many images: read ahead of the device, finished behind it."""

import collections
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from m2f_jax.segmenter import AHEAD, Pending, Segmentation

Job = TypeVar("Job")
Input = TypeVar("Input")
Outcome = TypeVar("Outcome")

READERS = 2  # threads; PIL and numpy let go of the interpreter while they work
QUEUED = 4  # inputs read ahead, and segmentations waiting to be finished


def run_pipeline(
    jobs: Iterable[Job],
    read: Callable[[Job], Input],
    submit: Callable[[Input], Pending],
    finish: Callable[[Job, Input, Segmentation], Outcome],
) -> Iterator[tuple[Job, Outcome | Exception]]:
    """Each job with what `finish` made of it, in order, or with the error that it ended in.

    Args:
        jobs: what to do.
        read: makes a job's input; runs in threads, a few jobs ahead.
        submit: starts the device on it (`Segmenter.submit`).
        finish: takes the segmentation; runs in a thread, behind the device.
    """
    with ThreadPoolExecutor(READERS) as readers, ThreadPoolExecutor(1) as finisher:
        started: collections.deque[tuple[Job, Future, Pending | None]] = collections.deque()
        ending: collections.deque[tuple[Job, Future]] = collections.deque()

        def collect():
            job, reading, pending = started.popleft()
            if pending is None:  # it failed on the way to the device
                ending.append((job, reading))
                return
            result = pending.result()
            ending.append((job, finisher.submit(finish, job, reading.result(), result)))

        for job, reading in _read_ahead(readers, jobs, read):
            try:
                pending = submit(reading.result())
            except (ValueError, OSError) as error:
                reading, pending = _failed(error), None
            started.append((job, reading, pending))
            while len(started) >= AHEAD:
                collect()
            while ending and (len(ending) > QUEUED or ending[0][1].done()):
                yield _outcome(*ending.popleft())
        while started:
            collect()
        while ending:
            yield _outcome(*ending.popleft())


def _read_ahead(
    readers: ThreadPoolExecutor, jobs: Iterable[Job], read: Callable[[Job], Input]
) -> Iterator[tuple[Job, Future]]:
    waiting: collections.deque[tuple[Job, Future]] = collections.deque()
    for job in jobs:
        waiting.append((job, readers.submit(read, job)))
        if len(waiting) > QUEUED:
            yield waiting.popleft()
    yield from waiting


def _failed(error: Exception) -> Future:
    future: Future = Future()
    future.set_exception(error)
    return future


def _outcome(job: Job, future: "Future[Outcome]") -> tuple[Job, Outcome | Exception]:
    try:
        return job, future.result()
    except (ValueError, OSError) as error:
        return job, error
