"""Timing of calls that take turns, so that a slower moment of the machine hits all sides."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

PAUSE = 0.05  # seconds in which the threads of the last call go to sleep


class Call(NamedTuple):
    """A computation that can be waited for, or begun and left to itself.

    Attributes:
        begin: starts it.
        wait: waits for what `begin` returned, and returns it.
    """

    begin: Callable[[], Any]
    wait: Callable[[Any], Any]

    def __call__(self) -> Any:
        return self.wait(self.begin())


def timed(call: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """Returns what a call returns, and the seconds that it took."""
    start = time.perf_counter()
    result = call(*arguments)
    return result, time.perf_counter() - start


def take_turns(calls: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Returns the seconds of each side's calls, after one that isn't timed.

    Each call waits for its result. Every other round goes backwards.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for i in range(repeats):
        for name in list(calls)[:: -1 if i % 2 else 1]:
            time.sleep(PAUSE)
            seconds[name].append(timed(calls[name])[1])
    return seconds
