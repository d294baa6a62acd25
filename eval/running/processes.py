"""Sharing a data set among the processes of `jax.distributed`."""

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import jax
import numpy as np
from jax._src import distributed  # its client has no public name; Orbax takes it from here too
from jax.experimental import multihost_utils

T = TypeVar("T")

A_WEEK = 7 * 24 * 3600 * 1000  # milliseconds; shares of a data set may take very unlike times
_exchanges = itertools.count()


def share_of(items: Sequence[T]) -> Sequence[T]:
    """Returns this process's part: every n-th item, so that slow images spread evenly."""
    return items[jax.process_index() :: jax.process_count()]


def exchange(message: bytes) -> list[bytes]:
    """Returns what every process passed, in order of the processes. All of them must call it."""
    if jax.process_count() == 1:
        return [message]
    # A collective operation gives up when the others come half a minute later; a barrier waits.
    client: Any = distributed.global_state.client
    client.wait_at_barrier(f"m2f_exchange_{next(_exchanges)}", A_WEEK)
    size = np.array(len(message), np.int32)
    sizes = np.asarray(multihost_utils.process_allgather(size))
    padded = np.zeros(sizes.max(), np.uint8)
    padded[: len(message)] = np.frombuffer(message, np.uint8)
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:size].tobytes() for row, size in zip(rows, sizes, strict=True)]


def check_same(settings: Sequence[Mapping[str, Any]]):
    """Refuses to merge what the processes measured of different things.

    Raises:
        ValueError: a setting differs.
    """
    for i, other in enumerate(settings):
        # Copies of the files on other machines may have other times.
        different = [
            name
            for name in {**settings[0], **other}
            if name != "data digest" and other.get(name) != settings[0].get(name)
        ]
        if different:
            raise ValueError(
                f"process {i} evaluates something else than process 0: its {different[0]} is "
                f"{other.get(different[0])}, not {settings[0].get(different[0])}; start all "
                "processes with the same command, model and data"
            )
