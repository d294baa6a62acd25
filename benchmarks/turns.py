"""How calls are timed: they take turns, so that a machine that slows down slows down for all."""

import time
from collections.abc import Callable, Mapping
from typing import Any

PAUSE = 0.05  # seconds in which the threads of the last call go to sleep

Call = Callable[[], Any]


def take_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, list[float]]:
    """Seconds of each side's calls, after one that isn't timed; every other round goes backwards.

    Each call waits for its result.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for i in range(repeats):
        for name in list(calls)[:: -1 if i % 2 else 1]:
            time.sleep(PAUSE)
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    return seconds
