"""The queue of requests for the device."""

from collections.abc import Callable
from typing import Any

import anyio
import anyio.to_thread


class BusyError(Exception):
    """Too many requests wait already."""


class Line:
    """A queue of requests, which are answered in the order in which they came.

    Attributes:
        longest: how many may wait; each holds its picture in memory.
        waiting: how many wait now, the one whose turn it is included.
    """

    def __init__(self, longest: int = 32):
        self.longest = longest
        self.waiting = 0
        self._turn = anyio.CapacityLimiter(1)

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Returns what the function returns, called in a thread when its turn has come.

        Raises:
            BusyError: the line is too long.
        """
        if self.waiting >= self.longest:
            raise BusyError(f"{self.waiting} requests are waiting already; try again in a while")
        self.waiting += 1
        try:
            return await anyio.to_thread.run_sync(function, *arguments, limiter=self._turn)
        finally:
            self.waiting -= 1
