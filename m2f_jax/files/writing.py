"""Files that are complete whenever they are there."""

import contextlib
import os
import re
import secrets
from collections.abc import Iterator
from pathlib import Path

UNFINISHED = re.compile(r"\.[0-9a-f]{16}\.tmp")


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path to write to; that file replaces `path` once the `with` block has succeeded.

    Errors of the operating system, such as a full disk, name `path`.
    """
    path = Path(path)
    unfinished = path.with_name(f".{secrets.token_hex(8)}.tmp")  # never too long a name
    try:
        yield unfinished
        unfinished.replace(path)
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(unfinished)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        unfinished.unlink(missing_ok=True)


def remove_unfinished(folder: Path):
    """Removes the unfinished files of killed processes in a folder and below.

    No process may be writing there meanwhile.
    """
    for path in folder.rglob(".*.tmp"):
        if UNFINISHED.fullmatch(path.name):
            path.unlink(missing_ok=True)


@contextlib.contextmanager
def naming(path: str | os.PathLike) -> Iterator[None]:
    """Adds this file's name to operating system errors that name none, such as of a full disk.

    Raises:
        OSError: the error, which now names a file.
    """
    try:
        yield
    except OSError as error:
        if error.filename is None and error.errno is not None:
            error.filename = os.fspath(path)
        raise
