"""Files and folders by path or URI, on disks and in object stores."""

import contextlib
import functools
import os
import re
from collections.abc import Iterator
from urllib.parse import unquote

import pyarrow as pa
import pyarrow.fs

from m2f_jax.images.opening import reason

PARTS = re.compile(r"([^/]+://[^/?]*)([^?]*)(.*)", re.DOTALL)  # bucket, path below it, options


def find(name: str | os.PathLike) -> tuple[pyarrow.fs.FileSystem, str]:
    """Returns the file system of a path or URI, and the path there.

    A URI's path may hold spaces and all characters but "?", before which the path ends, and "%"
    before two hexadecimal digits, which stand for another character.

    Raises:
        ValueError: no file system goes by such a URI.
        OSError: the file system can't be reached.
    """
    text = os.fspath(name)
    if "://" not in text:
        return pyarrow.fs.LocalFileSystem(), os.path.abspath(text)
    match = PARTS.fullmatch(text)
    bucket, path, options = match.groups() if match else (text, "", "")
    try:
        filesystem, top = file_system(f"{bucket}/{options}")
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(
            f"{text} is of no file system that is known here ({reason(error)}); name a path, or a "
            "URI of s3://, gs:// or hdfs://"
        ) from error
    except OSError as error:
        raise unreachable(text, error) from error
    return filesystem, f"{top.rstrip('/')}{unquote(path).rstrip('/')}" or "/"


@functools.lru_cache
def file_system(uri: str) -> tuple[pyarrow.fs.FileSystem, str]:
    """Returns a file system, whose connections all files there share, and its top folder.

    Args:
        uri: of the top folder.
    """
    return pyarrow.fs.FileSystem.from_uri(uri)


def below(folder: str, file: str) -> str:
    """Returns the path or URI of a file in a folder.

    Args:
        folder: the folder's path or URI.
        file: the file's path from there on.
    """
    if "://" not in folder:
        return os.path.join(folder, file)
    folder, question, options = folder.partition("?")
    for character in "%?#":
        file = file.replace(character, f"%{ord(character):X}")
    return f"{folder.rstrip('/')}/{file}{question}{options}"


@contextlib.contextmanager
def reaching(name: str) -> Iterator[None]:
    """Turns errors of a file system within the `with` block into one that names what was wanted.

    Args:
        name: a path or URI.

    Raises:
        OSError: what was wanted can't be reached.
    """
    try:
        yield
    except (OSError, pa.ArrowException) as error:
        raise unreachable(name, error) from error


def unreachable(name: str, error: Exception) -> OSError:
    """Returns an error that names what can't be reached."""
    return OSError(
        f"{name} can't be reached ({reason(error).rstrip('.')}); check its name, the network, and "
        "that every machine may read and write there"
    )
