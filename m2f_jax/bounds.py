"""Bounds of numbers, declared where a field is and checked in one place."""

import math
import sys
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Between:
    """The bounds of a field's number, both included: `Annotated[int, Between(1, 4096)]`.

    Each entry of a tuple must lie within them. None is always within.
    """

    low: int | float
    high: int | float = math.inf

    def __contains__(self, value: int | float) -> bool:
        return self.low <= value <= self.high and is_finite(value)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"{self.low} or more"
        return f"from {self.low} to {self.high}"


def is_finite(value: int | float) -> bool:
    """Says whether a number is finite, and no whole number beyond those of a float.

    `math.isfinite` fails with the latter.
    """
    return abs(value) <= sys.float_info.max


POSITIVE = Between(math.ulp(0.0))  # from the least float above 0


def check_bounds(values: Any, where: str | None = None, named: Callable[[str], str] = str):
    """Refuses numbers of a dataclass that are outside the bounds of their fields, or not finite.

    Args:
        values: the dataclass.
        where: what messages begin with; by default the name of the class.
        named: what a field is called in messages.

    Raises:
        ValueError: a number is out of bounds; the message names its field.
    """
    where = f"{type(values).__name__}: " if where is None else where
    for field, hint in typing.get_type_hints(type(values), include_extras=True).items():
        value = getattr(values, field)
        numbers = value if isinstance(value, tuple) else (value,)
        for bounds in getattr(hint, "__metadata__", ()):
            if not isinstance(bounds, Between):
                continue
            if not all(number is None or number in bounds for number in numbers):
                wanted = "above 0" if bounds is POSITIVE else bounds
                raise ValueError(f"{where}{named(field)} must be {wanted}, not {value!s:.80}")
