"""Fields of Hugging Face's JSON files, of checked types and values."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from m2f_jax.plain import from_plain

NEEDED = object()


@contextlib.contextmanager
def about(where: str | os.PathLike) -> Iterator[None]:
    """Begins the messages of ValueErrors with what they are about."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def field(values: Mapping[str, Any], key: str, kind: Any, where: str, default: Any = NEEDED) -> Any:
    """Returns a field of a kind that `from_plain` takes; it must be there unless it has a default.

    Raises:
        ValueError: the field is missing or of another type; the message names it.
    """
    if key not in values and default is NEEDED:
        raise ValueError(f"{where} lacks the field {key}; is it a Mask2Former's or a MaskFormer's?")
    return from_plain(kind, values[key], f"{where}: {key}") if key in values else default


def check_fields(values: Mapping[str, Any], required: Mapping[str, Any], where: str):
    """Refuses a field that is there with another value than the only one supported.

    Raises:
        ValueError: the message begins with `where` and names the field.
    """
    for key, value in required.items():
        if values.get(key, value) != value:
            raise ValueError(
                f"{where}: {key} is {values[key]!r:.80}; only models with {value!r} are supported"
            )
