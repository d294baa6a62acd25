"""Files that are complete whenever they are there, and JSON."""

import contextlib
import json
import math
import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a path to write to; the file there takes the place of `path` once all went well.

    Errors of the operating system, such as a full disk, name `path`.
    """
    path = Path(path)
    unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")  # of no longer a name
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(unfinished)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Gives errors of the operating system that name no file, as of a full disk, this one's name.

    Raises:
        OSError: with its file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise


def write_json(path: str | os.PathLike, value: Any, indent: int | None = 2):
    """Writes a value as strict JSON, which has no NaN or Infinity: they become null.

    The file appears when it is complete. Numbers of numpy become plain ones.
    """
    text = json.dumps(finite(value), indent=indent, allow_nan=False, default=plain_number)
    with replacing(path) as unfinished:
        unfinished.write_text(text + "\n", encoding="utf-8")


def finite(value: Any) -> Any:
    """A JSON value in which what isn't a finite number became None."""
    if isinstance(value, Mapping):
        return {key: finite(x) for key, x in value.items()}
    if isinstance(value, list | tuple):
        return [finite(x) for x in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def plain_number(value: Any) -> Any:
    """A number of numpy as one of Python."""
    return finite(value.item())


def read_json(path: str | os.PathLike) -> Any:
    """Returns the contents of a JSON file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: as `parse_json`.
    """
    return parse_json(Path(path).read_bytes(), path)


def read_json_lines(path: str | os.PathLike) -> list[Any]:
    """Returns the values of a file that has one on each line; none if there is no such file.

    A killed run may have left half a line at the end, which is passed over.

    Raises:
        ValueError: as `parse_json`; the message names the line.
    """
    path = Path(path)
    if not path.exists():
        return []
    lines = path.read_bytes().split(b"\n")[:-1]
    return [parse_json(line, f"line {k} of {path}") for k, line in enumerate(lines, 1)]


def parse_json(data: bytes | str, where: str | os.PathLike) -> Any:
    """Returns what JSON text means; a byte order mark before it is passed over.

    NaN and Infinity, which other programs write, are floats: who takes a number checks it.

    Args:
        data: the text.
        where: the file, for messages.

    Raises:
        ValueError: it isn't JSON, has a key twice in one object, or is nested too deeply.
    """
    try:
        text = data.decode("utf-8-sig") if isinstance(data, bytes) else data
        return json.loads(text, object_pairs_hook=object_of)
    except RecursionError:
        raise ValueError(f"{where} is nested too deeply to be read as JSON") from None
    except ValueError as error:
        raise ValueError(
            f"{where} is not valid JSON ({error}); write it again, or download it again"
        ) from error


def object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object.

    Raises:
        ValueError: a key is there twice.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"the key {twice!r} is there twice in one object")
    return found
