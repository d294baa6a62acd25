"""Values of JSON: their types, and how messages show them."""

from collections.abc import Mapping
from typing import Any, TypeGuard

import numpy as np


def is_whole(value: Any) -> TypeGuard[int]:
    """Returns whether a value is a whole number; true and 1.0 aren't."""
    return type(value) is int or isinstance(value, np.integer)


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether a value is a number, perhaps NaN or infinite."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def is_name(value: Any) -> TypeGuard[str]:
    """Returns whether a value is text that can be part of a file's name."""
    if not isinstance(value, str) or not value or "\0" in value:
        return False
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def is_flag(value: Any) -> TypeGuard[int]:
    """Returns whether a value is 0, 1, true or false."""
    return (isinstance(value, bool) or is_whole(value)) and value in (0, 1)


def shown(value: Any) -> str:
    """Returns a value of a JSON file as a message shows it."""
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text {value!r:.40}"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list):
        return "an empty list" if not value else "a list"
    return f"{value!r:.40}"
