"""Retries images one at a time where the device fails."""

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import jax

Job = TypeVar("Job")
Outcome = TypeVar("Outcome")


def outcomes_of(
    segment: Callable[[Sequence[Job]], Iterable[tuple[Job, Outcome | Exception]]],
    jobs: Sequence[Job],
) -> list[tuple[Job, Outcome | Exception]]:
    """Returns each job with its outcome; if the device fails, the jobs are tried one at a time.

    So an image that the device has no memory for is the only one that fails.

    Args:
        segment: takes jobs, and yields each with its outcome or its error.
        jobs: what to do.
    """
    try:
        return list(segment(jobs))
    except jax.errors.JaxRuntimeError as error:
        if len(jobs) > 1:
            return [outcome for job in jobs for outcome in outcomes_of(segment, [job])]
        return [(jobs[0], error)]
