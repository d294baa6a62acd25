"""What becomes of images where a device fails."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import jax

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def outcomes_of(
    segment: Callable[[Sequence[Job]], Iterable[tuple[Job, Outcome | Exception]]],
    jobs: Sequence[Job],
) -> list[tuple[Job, Outcome | Exception]]:
    """Returns each job with what became of it; where the device fails, it has one job at a time.

    An image that a device has no memory for is then the only one that fails.

    Args:
        segment: a function of jobs, whose errors of single jobs are among its outcomes.
        jobs: what to do.
    """
    try:
        return list(segment(jobs))
    except jax.errors.JaxRuntimeError as error:
        if len(jobs) > 1:
            return [outcome for job in jobs for outcome in outcomes_of(segment, [job])]
        return [(jobs[0], error)]
