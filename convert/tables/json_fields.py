"""Fields of Hugging Face's JSON files, of checked types and values."""

from collections.abc import Mapping
from typing import Any

from m2f_jax.config import from_plain


def field(values: Mapping[str, Any], key: str, kind: Any, where: str, default: Any = None) -> Any:
    """Returns a field of a kind that `from_plain` takes; it must be there unless it has a default.

    Raises:
        ValueError: the field is missing or of another type; the message names it.
    """
    if key not in values and default is None:
        raise ValueError(f"{where} lacks the field {key}; is it a Mask2Former's?")
    return from_plain(kind, values.get(key, default), f"{where}: {key}")


def check_fields(values: Mapping[str, Any], required: Mapping[str, Any], where: str):
    """Refuses a field that is there with another value than the only one supported.

    Raises:
        ValueError: the message begins with `where` and names the field.
    """
    for key, value in required.items():
        if values.get(key, value) != value:
            raise ValueError(
                f"{where}: {key} is {values[key]!r}; only models with {value!r} are supported"
            )
