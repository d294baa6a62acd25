"""Random choices that are the same on every platform and with every numpy version."""

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float, UInt8

T = TypeVar("T")
Number = float | int


class Random:
    """A stream of choices that a seed and a few numbers determine.

    It reads the raw bits of PCG64, which numpy promises never to change; there is no such promise
    for the methods of numpy's generators.
    """

    def __init__(self, seed: int, *key: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=key))

    def fractions(self, *shape: int) -> Float[np.ndarray, "..."]:
        """Returns numbers in [0, 1)."""
        raw = self._bits.random_raw(math.prod(shape))
        return ((raw >> np.uint64(11)) * 2.0**-53).reshape(shape)

    def octets(self, count: int) -> UInt8[np.ndarray, "count"]:
        """Returns numbers from 0 to 255."""
        return self._bits.random_raw(-(-count // 8)).astype("<u8").view(np.uint8)[:count]

    def uniform(self, low: Number, high: Number) -> float:
        """Returns a number between the two."""
        return low + (high - low) * (int(self._bits.random_raw()) >> 11) * 2.0**-53

    def whole(self, low: int, high: int) -> int:
        """Returns a whole number from `low` to `high`, both included."""
        return int(self.uniform(low, high + 1))

    def chance(self, probability: Number) -> bool:
        """Returns True with this probability."""
        return self.uniform(0, 1) < probability

    def sign(self) -> int:
        """Returns plus or minus one."""
        return 1 if self.chance(0.5) else -1

    def choose(self, options: Sequence[T]) -> T:
        """Returns one of the options, all equally likely."""
        return options[self.whole(0, len(options) - 1)]

    def weighted(self, weights: Mapping[T, Number]) -> T:
        """Returns a key, with a probability proportional to its value."""
        options = list(weights)
        bounds = np.cumsum(list(weights.values()))
        at = self.uniform(0, float(bounds[-1]))
        return options[min(int(np.searchsorted(bounds, at, side="right")), len(options) - 1)]

    def color(
        self, *palette: tuple[Number, Number, Number], spread: Number = 0.06
    ) -> Float[np.ndarray, "3"]:
        """Returns one of the colors, made lighter or darker and a little off in hue."""
        base = np.array(self.choose(palette))
        changed = base + self.uniform(-spread, spread) + (self.fractions(3) - 0.5) * spread
        return changed.clip(0.02, 0.98)
