"""Fields of Hugging Face's JSON files, with their types and values checked."""

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

from m2f_jax.plain import from_plain

NEEDED = object()


@contextlib.contextmanager
def about(where: str | os.PathLike) -> Iterator[None]:
    """Puts `where` before the messages of ValueErrors within the `with` block."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error


def field(values: Mapping[str, Any], key: str, kind: Any, where: str, default: Any = NEEDED) -> Any:
    """Returns a field of a JSON object, or the default if it is missing.

    Args:
        values: the object.
        key: the name of the field.
        kind: its type, as for `from_plain`.
        where: the place of the object, for messages.
        default: without one, the field is required.

    Raises:
        ValueError: the field is missing or of another type; the message names it.
    """
    if key not in values and default is NEEDED:
        raise ValueError(f"{where} lacks the field {key}; is it a Mask2Former's or a MaskFormer's?")
    return from_plain(kind, values[key], f"{where}: {key}") if key in values else default


def check_fields(values: Mapping[str, Any], required: Mapping[str, Any], where: str):
    """Refuses fields that are there with other values than the only ones supported.

    Raises:
        ValueError: the message begins with `where` and names the field.
    """
    for key, value in required.items():
        if values.get(key, value) != value:
            raise ValueError(
                f"{where}: {key} is {values[key]!r:.80}; only models with {value!r} are supported"
            )
