"""Finds the images that a command line names: files, folders and glob patterns."""

import glob
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from m2f_jax.cli.predicting.layout import RUN_FILE
from m2f_jax.images import image_suffixes


@dataclass(frozen=True)
class Found:
    """An image file that was named or is in a folder that was.

    Attributes:
        path: the path as the command line has it, or the folder's path and what is below it.
        file_name: its path relative to the folder, with slashes; no two images of a run share one.
    """

    path: Path
    file_name: str

    @property
    def source(self) -> str:
        """The absolute path, by which the file is told from others."""
        return os.path.abspath(self.path)


@dataclass(frozen=True)
class Findings:
    """The files that patterns stand for.

    Attributes:
        images: each file once.
        problems: a message about each pattern that stands for none, and each folder that can't be
            read.
        notes: a message about each folder that is left out.
    """

    images: list[Found] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def find_images(patterns: Sequence[str], out: Path) -> Findings:
    """Finds images; what lies in the output folder, or in that of another run, isn't one.

    An image's `file_name` is relative to the folder that was named, to that of a file, or to the
    part of a glob pattern before its first wildcard. Where two images would then share one, all
    are relative to what holds all of these folders.

    Args:
        patterns: files, folders (searched through, links to folders too) and glob patterns.
        out: the output folder.

    Raises:
        ValueError: the output folder is one of those to search.
    """
    findings = Findings()
    found: dict[str, tuple[str, str]] = {}  # by absolute path: the path, and what it's relative to
    for pattern in patterns:
        before = len(findings.problems)
        root, files = files_of(pattern, out, findings)
        if not files and len(findings.problems) == before:
            findings.problems.append(f"{pattern} is missing, or holds no images")
        for file in files:
            found.setdefault(os.path.abspath(file), (file, os.path.abspath(root)))
    names = {source: os.path.relpath(source, root) for source, (_, root) in found.items()}
    if len(set(names.values())) < len(names):
        shared = os.path.commonpath([root for _, root in found.values()])
        names = {source: os.path.relpath(source, shared) for source in found}
    for source, (file, _) in found.items():
        findings.images.append(Found(Path(file), names[source].replace(os.sep, "/")))
    return findings


def files_of(pattern: str, out: Path, findings: Findings) -> tuple[str, list[str]]:
    """Returns the folder that a pattern's files are relative to, and the files in order."""
    left_out = os.path.realpath(out)
    if os.path.isdir(pattern):
        if os.path.realpath(pattern) == left_out:
            raise ValueError(
                f"{pattern} is the folder of images and --out as well; choose another --out"
            )
        return pattern, list(files_below(pattern, left_out, findings))
    if os.path.lexists(pattern):
        return os.path.dirname(pattern), [pattern]
    root = os.path.dirname(pattern)
    while glob.has_magic(root):
        root = os.path.dirname(root)
    matches = sorted(glob.glob(pattern, recursive=True))
    return root, [
        file
        for file in matches
        if os.path.isfile(file) and not is_inside(os.path.realpath(file), left_out)
    ]


def files_below(top: str, left_out: str, findings: Findings) -> Iterator[str]:
    """Yields the images in a folder and below it, those behind links to folders last.

    Every folder is searched once, so links may lead in circles.

    Args:
        top: the folder.
        left_out: the real path of a folder that isn't searched.
        findings: gets messages about other folders that aren't.
    """

    def tell(error: OSError):
        findings.problems.append(
            f"{error.filename} can't be searched for images ({error.strerror})"
        )

    suffixes = image_suffixes()
    seen = {left_out}
    waiting = [top]
    while waiting:
        for folder, folders, files in os.walk(waiting.pop(0), onerror=tell):
            real = os.path.realpath(folder)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            if RUN_FILE in files and {"overlays", "results"} <= set(folders):
                findings.notes.append(
                    f"{folder} holds the results of m2f predict, and is left out; name the images "
                    "in it to segment them"
                )
                folders.clear()
                continue
            folders.sort()
            paths = [os.path.join(folder, name) for name in folders]
            waiting += [path for path in paths if os.path.islink(path)]
            for name in sorted(files):
                if os.path.splitext(name)[1].lower() in suffixes:
                    yield os.path.join(folder, name)


def is_inside(path: str, folder: str) -> bool:
    """Returns whether a real path is a folder's or below it."""
    return os.path.commonpath([path, folder]) == folder
