"""A record of files that were read and found sound, so that they needn't be read again."""

import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from m2f_jax.datasets.checking import Contents
from m2f_jax.datasets.dataset import Dataset
from m2f_jax.files import naming, read_json_lines, replacing


class CheckedFiles:
    """A file that records the contents of images, by path, size and time of change of their files.

    It has a line of JSON per image, with the class of every segment. A line is written as soon as
    its image is read, so an interrupted or failing check loses nothing.
    """

    def __init__(self, path: Path, policy: str = "", *, write: bool = True):
        """Opens a record, which may be new.

        Args:
            path: of the file.
            policy: names anything else that the contents of an image depend on, such as what
                becomes of invalid objects. Lines of another policy aren't used.
            write: whether to add to it, which only one of several processes may.

        Raises:
            ValueError: the file is damaged.
        """
        self.path, self.policy = path, policy
        lines = [checked_line(line, k, path) for k, line in enumerate(read_json_lines(path), 1)]
        self.known = {line["files"]: line for line in lines}
        self.lock = threading.Lock()
        self.file = None
        if write:
            with replacing(path) as unfinished:  # without half a line at the end
                unfinished.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
            self.file = path.open("a", buffering=1)

    def __enter__(self) -> "CheckedFiles":
        return self

    def __exit__(self, *_: object):
        if self.file is not None:
            self.file.close()

    def checked(
        self, check: Callable[[Dataset, int], Contents]
    ) -> Callable[[Dataset, int], Contents]:
        """Returns a check that reads an image only if it isn't in the record, and adds it.

        Args:
            check: reads an image of a data set. Its `__name__` is a part of the record's keys.
        """

        def remembered(dataset: Dataset, index: int) -> Contents:
            files = fingerprint(dataset, index, f"{check.__name__} {self.policy}")
            if files is not None and files in self.known:
                return self.contents(files, len(dataset.labels))
            contents = check(dataset, index)
            if files is not None:
                self.add(files, contents)
            return contents

        return remembered

    def contents(self, files: str, classes: int) -> Contents:
        """Returns the recorded contents of an image.

        Args:
            files: the key, as `fingerprint` makes it.
            classes: the number of classes.

        Raises:
            ValueError: there are more classes in the record than in the data.
        """
        line = self.known[files]
        segments, hidden = (
            np.bincount(np.array(line[name], int), minlength=classes)
            for name in ("segments", "without_pixels")
        )
        if max(len(segments), len(hidden)) > classes:
            raise ValueError(f"{self.path} is damaged; remove it to check all data again")
        return Contents(segments, hidden)

    def add(self, files: str, contents: Contents):
        """Records the contents of an image under the key `files`."""
        segments, hidden = (np.repeat(np.arange(len(x)), x).tolist() for x in contents)
        line = {"files": files, "segments": segments, "without_pixels": hidden}
        with self.lock:
            self.known[files] = line
            if self.file is not None:
                with naming(self.path):
                    self.file.write(json.dumps(line) + "\n")


def checked_line(line: Any, number: int, path: Path) -> dict[str, Any]:
    """Returns a line of the record if it is sound.

    Raises:
        ValueError: it isn't; the message has the number of the line.
    """
    match line:
        case {"files": str(), "segments": list(segments), "without_pixels": list(hidden)}:
            if all(type(x) is int and x >= 0 for x in (*segments, *hidden)):
                return line
    raise ValueError(f"line {number} of {path} is damaged; remove the file to check all data again")


def fingerprint(dataset: Dataset, index: int, check: str) -> str | None:
    """Returns a digest of a check, the classes and the state of an image's files.

    None if a file is missing.
    """
    digest = hashlib.blake2b(digest_size=16)
    names = [label.name for label in dataset.labels]
    digest.update(json.dumps([check, dataset.task, names]).encode())
    for path in dataset.files(index, dataset.task):
        try:
            status = path.stat()
        except OSError:
            return None
        digest.update(f"{path.absolute()}\0{status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()
