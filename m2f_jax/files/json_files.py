"""JSON files: written whole and strict, and read by the one reader that all code uses.

The optional package msgspec reads large ones several times as fast. It takes nothing that Python's
reader doesn't, and finds the same values; what it refuses goes to Python's, which says what is
wrong.
"""

import contextlib
import gc
import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from m2f_jax.files.writing import replacing

msgspec: Any = None
with contextlib.suppress(ImportError):  # where the extra "fast" isn't installed
    import msgspec

WITHOUT_TEXT = {int, float, bool, type(None)}


def write_json(path: str | os.PathLike, value: Any, indent: int | None = 2):
    """Writes a value as strict JSON, which has no NaN or Infinity: they become null.

    The file appears when it is complete. NumPy's numbers become plain ones.
    """
    text = json.dumps(finite(value), indent=indent, allow_nan=False, default=plain_number)
    with replacing(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """Returns a JSON value with None in place of every number that isn't finite."""
    if isinstance(value, Mapping):
        return {key: finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [finite(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plain_number(value: Any) -> Any:
    """Returns a NumPy number as a Python number."""
    return finite(value.item())


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Pauses Python's garbage collector, which is slow while millions of values are made."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def read_json(path: str | os.PathLike) -> Any:
    """Returns the contents of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `parse_json`.
    """
    return parse_json(Path(path).read_bytes(), path)


def read_json_lines(path: str | os.PathLike) -> list[Any]:
    """Returns the values of a file with one JSON value per line; none if there is no such file.

    Half a line at the end, which a killed run may have left, is ignored.

    Raises:
        ValueError: as `parse_json`; the message names the line.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [parse_json(line, f"line {k} of {path}") for k, line in enumerate(lines, 1)]


def parse_json(data: bytes | str, where: str | os.PathLike) -> Any:
    """Returns the value of JSON text; a byte order mark before it is skipped.

    NaN and Infinity, which other programs write, become floats, which callers have to check.

    Args:
        data: the text.
        where: the file, for messages.

    Raises:
        ValueError: it isn't JSON, has a key twice in one object, or is nested too deeply.
    """
    try:
        with without_collection():
            if isinstance(data, bytes):
                if (read := read_fast(data)) is not None:
                    return read
                data = data.decode("utf-8-sig")
            return json.loads(data, object_pairs_hook=object_of)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply to be read as JSON") from None
    except ValueError as error:
        raise ValueError(
            f"{where} is not valid JSON ({error}); write it again, or download it again"
        ) from error


def read_fast(data: bytes) -> Any:
    """Returns the value of JSON text as msgspec reads it.

    Returns:
        None if it isn't sound, if a key may be there twice in an object, which msgspec passes over,
        or if msgspec isn't installed.
    """
    if msgspec is None:
        return None
    try:
        value = msgspec.json.decode(data)
        # With a key twice, the text has more quotation marks than those around what was found.
        return value if data.count(b'"') == 2 * texts_in(value) else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def texts_in(value: Any) -> int:
    """Returns how many keys and texts there are in a JSON value."""
    if type(value) is dict:
        return len(value) + sum(map(texts_in, value.values()))
    if type(value) is list:
        return 0 if WITHOUT_TEXT.issuperset(map(type, value)) else sum(map(texts_in, value))
    return int(type(value) is str)


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object from its keys and values.

    Raises:
        ValueError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found
