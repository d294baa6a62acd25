"""The folder of results: Parquet files of finished images and of failed ones, on any file system.

    run.json            the settings; a run with others is refused
    images/*.parquet    finished images, some hundreds to a file
    failed/*.parquet    images that failed in the last run, with an error; tried again by the next
    summary.json        how many there are of both, once a run has come to its end

A file is there once it is complete.
"""

import hashlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
import pyarrow.fs
import pyarrow.parquet

from m2f_jax.files import parse_json
from m2f_jax.images.opening import reason
from m2f_jax.ray.uris import below, find, reaching

FORMAT = "parquet 1"
LOCK_FILE = "predict.lock"  # on disks; object stores have no locks
RUN_FILE, SUMMARY_FILE = "run.json", "summary.json"
FINISHED, FAILED = "images", "failed"
READERS = 16  # files of results that are read at a time

SEGMENT = pa.struct(
    [
        ("category_id", pa.int32()),
        ("label", pa.string()),
        ("isthing", pa.bool_()),
        ("score", pa.float32()),  # null in semantic maps, which have none
        ("bbox", pa.list_(pa.int32(), 4)),  # left, top, width and height in pixels
        ("area", pa.int64()),  # in pixels
        ("counts", pa.string()),  # COCO's compressed run lengths
    ]
)
SCHEMA = pa.schema(
    [
        ("path", pa.string()),
        ("digest", pa.string()),  # BLAKE2b of 16 bytes of the file, in hexadecimal digits
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("pages", pa.int32()),  # in the file, of which the first was segmented
        ("segments", pa.list_(SEGMENT)),
        ("error", pa.string()),  # a sentence, and the other columns but the path are null
    ]
)


def digest_of(data: bytes) -> bytes:
    """Returns a digest of 16 bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def keys_of(paths: Sequence[str]) -> np.ndarray:
    """Returns digests of paths as an array."""
    return np.array([digest_of(path.encode()) for path in paths], "S16")


def contents_of(digests: Sequence[str]) -> np.ndarray:
    """Returns hexadecimal digests as an array."""
    return np.array([bytes.fromhex(digest) for digest in digests], "S16")


class Done:
    """The images that are finished, in 32 bytes each; kept in the memory that actors share.

    Attributes:
        paths: digests of their paths, sorted.
        contents: digests of their files.
    """

    def __init__(self, paths: np.ndarray, contents: np.ndarray):
        """Takes what `keys_of` and `contents_of` return."""
        order = np.argsort(paths)
        self.paths, self.contents = paths[order], contents[order]

    def __len__(self) -> int:
        return len(self.paths)

    def content(self, path: str) -> Any:
        """Returns the digest of an image's file, to be compared; None if it isn't done."""
        [key] = keys_of([path])
        place = np.searchsorted(self.paths, key)
        found = place < len(self.paths) and self.paths[place] == key
        return self.contents[place] if found else None


@dataclass(frozen=True)
class Parts:
    """A folder of results.

    Attributes:
        name: what the user named, a path or a URI such as s3://bucket/folder.
        filesystem: the file system that the folder is on.
        path: the folder's path there.
    """

    name: str
    filesystem: pyarrow.fs.FileSystem
    path: str

    @classmethod
    def at(cls, name: str | os.PathLike) -> "Parts":
        """Returns the folder at a path or URI, which need not be there.

        Raises:
            ValueError: no file system goes by such a URI.
        """
        filesystem, path = find(name)
        return cls(os.fspath(name), filesystem, path.rstrip("/"))

    def open(self, settings: Mapping[str, Any], source: Mapping[str, Any], *, overwrite: bool):
        """Makes the folder, or takes up an earlier run of the same settings.

        Args:
            settings: all that results depend on besides the image, as plain JSON values by name.
            source: more about the run, which may differ.
            overwrite: remove the results of an earlier run.

        Raises:
            FileExistsError: the folder holds something else, or results of other settings.
            OSError: the folder can't be reached.
        """
        selector = pyarrow.fs.FileSelector(self.path, allow_not_found=True)
        with reaching(self.name):
            there = {info.base_name for info in self.filesystem.get_file_info(selector)}
        if RUN_FILE in there and not overwrite:
            check_settings(self.name, self.read_json(RUN_FILE), settings)
        elif RUN_FILE not in there and there - {LOCK_FILE}:
            raise FileExistsError(f"{self.name} holds other files; choose another folder")
        with reaching(self.name):
            for folder in (FINISHED, FAILED):
                self.filesystem.create_dir(f"{self.path}/{folder}")
                if folder == FAILED or overwrite:
                    self.filesystem.delete_dir_contents(f"{self.path}/{folder}")
            if SUMMARY_FILE in there:
                self.filesystem.delete_file(f"{self.path}/{SUMMARY_FILE}")
        self.write_json(RUN_FILE, {"format": FORMAT, **source, "settings": settings})

    def done(self) -> Done:
        """Returns the images that are finished.

        Raises:
            ValueError: a file of an earlier run is damaged.
        """
        selector = pyarrow.fs.FileSelector(f"{self.path}/{FINISHED}")
        with reaching(self.name):
            infos = self.filesystem.get_file_info(selector)
        files = [info.path for info in infos if info.extension == "parquet"]
        with ThreadPoolExecutor(READERS) as pool:
            read = [(keys_of([]), contents_of([])), *pool.map(self.digests_in, files)]
        paths, contents = zip(*read, strict=True)
        return Done(np.concatenate(paths), np.concatenate(contents))

    def digests_in(self, file: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns digests of the paths and of the files of the images in a file of results."""
        try:
            with self.filesystem.open_input_file(file) as opened:
                table = pyarrow.parquet.read_table(opened, columns=["path", "digest"])
        except (pa.ArrowException, OSError) as error:
            raise ValueError(
                f"{file} can't be read ({reason(error)}); if it is damaged, remove it, and its "
                "images are done anew"
            ) from error
        return keys_of(table["path"].to_pylist()), contents_of(table["digest"].to_pylist())

    def add(self, rows: Sequence[Mapping[str, Any]]):
        """Writes the rows of one batch; those of the same images replace them.

        Raises:
            OSError: they can't be written.
        """
        name = digest_of("\0".join(row["path"] for row in rows).encode()).hex()
        for folder, wanted in ((FAILED, True), (FINISHED, False)):
            chosen = [row for row in rows if (row["error"] is not None) == wanted]
            if chosen:
                sink = pa.BufferOutputStream()
                table = pa.Table.from_pylist(chosen, SCHEMA)
                pyarrow.parquet.write_table(table, sink, compression="zstd")
                self.write(f"{folder}/{name}.parquet", sink.getvalue())

    def read_json(self, name: str) -> Any:
        """Returns what a JSON file holds."""
        where = below(self.name, name)
        with reaching(where), self.filesystem.open_input_stream(f"{self.path}/{name}") as file:
            data = file.read()
        return parse_json(data, where)

    def write_json(self, name: str, value: Any):
        """Writes a JSON file."""
        self.write(name, json.dumps(value, indent=2, allow_nan=False).encode())

    def write(self, name: str, data: Any):
        """Writes a file, which is there once it is complete, as object stores have it anyway."""
        path = f"{self.path}/{name}"
        local = isinstance(self.filesystem, pyarrow.fs.LocalFileSystem)
        written = f"{os.path.dirname(path)}/.{secrets.token_hex(8)}.tmp" if local else path
        with reaching(below(self.name, name)):
            with self.filesystem.open_output_stream(written) as file:
                file.write(data)
            if local:
                self.filesystem.move(written, path)


def check_settings(name: str, record: Any, settings: Mapping[str, Any]):
    """Refuses a run whose settings aren't those of the results that are there.

    Raises:
        FileExistsError: they differ; the message says which.
    """
    there = record.get("format") if isinstance(record, Mapping) else None
    if there != FORMAT or not isinstance(earlier := record.get("settings"), Mapping):
        raise FileExistsError(f"{name} holds other results; choose another folder, or overwrite it")
    changed = [x for x in {**settings, **earlier} if settings.get(x) != earlier.get(x)]
    if changed:
        raise FileExistsError(
            f"{name} holds results of other settings ({', '.join(changed)}); choose another "
            "folder, or overwrite it"
        )
