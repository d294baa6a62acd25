"""The plan of a run: which of the images found have no results in the output folder."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from m2f_jax.cli.predicting.finding import Found
from m2f_jax.cli.predicting.folder import Picture, digest_of_file
from m2f_jax.cli.predicting.layout import result_names

THREADS = 4  # hashing releases Python's lock


@dataclass(frozen=True)
class Job:
    """An image to segment.

    Attributes:
        path: the file.
        file_name: its path, relative to the folder that was named.
        name: the name of its results, see `layout`.
    """

    path: Path
    file_name: str
    name: str


@dataclass(frozen=True)
class Plan:
    """The images of a run, and which of them to segment.

    Attributes:
        file_names: the names of all images found, as results list them.
        todo: the images to segment.
        changed: images in `todo` that have results, but whose files have changed since.
    """

    file_names: list[str]
    todo: list[Job]
    changed: list[Picture]


def make_plan(found: Sequence[Found], there: Sequence[Picture], out: Path) -> Plan:
    """Compares the images found with those whose results are there, by content.

    An image is known by its absolute path, and keeps the `file_name` under which it is listed; or
    by its `file_name` and its content, where its folder has moved.

    Raises:
        FileExistsError: the results under an image's `file_name` are another image's.
    """
    by_source = {picture.source: picture for picture in there}
    by_name = {picture.file_name: picture for picture in there}
    sources = {image.source for image in found}
    known = [by_source.get(x.source) or by_name.get(x.file_name) for x in found]
    with ThreadPoolExecutor(THREADS) as pool:
        digests = list(
            pool.map(lambda x, known: known and digest_if_readable(x.path), found, known)
        )
    todo, others, changed = {}, [], []
    file_names = []
    for image, picture, digest in zip(found, known, digests, strict=True):
        file_name = image.file_name if picture is None else picture.file_name
        file_names.append(file_name)
        if picture is not None and picture.source != image.source:
            if picture.source in sources or digest != picture.digest:
                others.append((image, picture))
        elif picture is not None and digest not in (None, picture.digest):
            changed.append(picture)
        if picture is None or digest != picture.digest:
            todo[file_name] = image.path
    if others:
        image, picture = others[0]
        more = f", and so for {len(others) - 1} more" if len(others) > 1 else ""
        raise FileExistsError(
            f"{out} holds the results of {picture.source} as {picture.file_name}, and {image.path} "
            f"is another image{more}; choose another --out, name the folder that holds both, or "
            "pass --overwrite to start anew"
        )
    names = result_names(todo, {picture.file_name: picture.name for picture in there})
    jobs = [Job(path, file_name, names[file_name]) for file_name, path in todo.items()]
    return Plan(file_names, jobs, changed)


def digest_if_readable(path: Path) -> str | None:
    """Returns a digest of a file; None where it can't be read now, which keeps its results."""
    try:
        return digest_of_file(path) if os.path.isfile(path) else None
    except OSError:
        return None
