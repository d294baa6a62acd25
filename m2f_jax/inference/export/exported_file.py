"""The file format of exported models, and its reader.

An exported model is two files. FILE is a zip of `header.json` and of `program.jax_export`, which is
StableHLO as `jax.export` serialises it. FILE.safetensors beside it holds the arrays that the
program takes: the parameters, and the plan by which masks are resized to the image's size. The
header has the digest of program and arrays; FILE.safetensors has that too, and the digest of all of
FILE. So no byte of either can change unnoticed.
"""

import hashlib
import io
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.export
import numpy as np
from safetensors import SafetensorError, safe_open

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.config import Task
from m2f_jax.files import parse_json
from m2f_jax.labels import Label
from m2f_jax.plain import from_plain

FORMATS = (1, 2)  # the first without the digest of FILE
SUFFIX = ".m2f"
HEADER_FILE, PROGRAM_FILE = "header.json", "program.jax_export"
Platform = Literal["cpu", "cuda", "rocm", "tpu"]
SIDE = Between(1, 65_536)  # of an image, in pixels
MAX_HEADER = 2**24  # bytes
MAX_RATIO = 64  # of a program's bytes to those of its file, where it is compressed; usually 9
RETURNED = {  # names of the results of a program, by its task
    "instance": {"scores", "labels", "queries", "masks", "valid"},
    "panoptic": {"segment_map", "labels", "is_thing", "scores", "valid"},
    "semantic": {"class_map"},
}


@dataclass(frozen=True, kw_only=True)
class Header:
    """The facts of an exported model that are stored beside its program.

    Attributes:
        task: "instance", "panoptic" or "semantic".
        labels: the classes, in the order of the class indices.
        size: height and width of the images that it takes.
        platforms: where it runs: "cpu", "cuda", "rocm" or "tpu".
        dtype: of the network's computation.
        jax_version: of the jax that exported it.
        digest: of the program and its arrays; FILE.safetensors bears the same one.
    """

    task: Task
    labels: tuple[Label, ...]
    size: Annotated[tuple[int, int], SIDE]
    platforms: tuple[Platform, ...]
    dtype: Literal["float32", "bfloat16"]
    jax_version: str
    digest: str

    def __post_init__(self):
        check_bounds(self, "")
        for name in ("labels", "platforms"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty")


def data_file(path: str | os.PathLike) -> Path:
    """Returns the path of the file beside an ONNX file, for weights that don't fit into it."""
    return Path(f"{path}.data")


def arrays_file(path: str | os.PathLike) -> Path:
    """Returns the path of the file of arrays beside an exported model."""
    return Path(f"{os.fspath(path)}.safetensors")


def is_exported(path: str | os.PathLike) -> bool:
    """Returns whether a file is an exported model, or has the ending of one."""
    path = Path(path)
    if path.suffix == SUFFIX:
        return not path.is_dir()
    try:
        if not (path.is_file() and zipfile.is_zipfile(path)):
            return False
        with zipfile.ZipFile(path) as archive:
            return {HEADER_FILE, PROGRAM_FILE} <= set(archive.namelist())
    except zipfile.BadZipFile:  # then it may be anything
        return False


class ExportedFile(NamedTuple):
    """The content of FILE.

    Attributes:
        header: the facts of the model.
        program: as jax.export serialised it.
        digest: of all bytes of FILE; None in the first format, whose arrays don't know it.
    """

    header: Header
    program: bytes
    digest: str | None


def read_program(path: Path) -> ExportedFile:
    """Reads FILE, in memory that its size bounds; nothing is compared with FILE.safetensors.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it isn't an exported model, is damaged, or of a newer format; or a field of its
            header is invalid, which the message names.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; m2f export writes such a file")
    whole = path.read_bytes()
    try:
        with zipfile.ZipFile(io.BytesIO(whole)) as archive:
            header = read_entry(archive, HEADER_FILE, MAX_HEADER)
            program = read_entry(archive, PROGRAM_FILE, MAX_RATIO * len(whole))
        values = parse_json(header, HEADER_FILE)
        if not isinstance(values, dict) or "format" not in values:
            raise ValueError(f"{HEADER_FILE} states no format")
        version = values.pop("format")
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        EOFError,
        OSError,
        NotImplementedError,
    ) as error:
        raise ValueError(
            f"{path} isn't an exported model, or is damaged ({error}); write it with m2f export"
        ) from error
    if type(version) is not int or version not in FORMATS:
        raise ValueError(
            f"{path} is of format {version!r:.80}, and this version of m2f-jax knows format "
            f"{max(FORMATS)}; upgrade m2f-jax, or export the model again"
        )
    digest = hashlib.sha256(whole).hexdigest() if version > 1 else None
    return ExportedFile(from_plain(Header, values, f"{path}: {HEADER_FILE}"), program, digest)


def read_entry(archive: zipfile.ZipFile, name: str, limit: int) -> bytes:
    """Returns the bytes of an entry of a zip file.

    Raises:
        ValueError: it is missing or there twice, encrypted, packed by another method than deflate,
            or has more bytes than `limit`.
    """
    entries = [entry for entry in archive.infolist() if entry.filename == name]
    if len(entries) != 1:
        raise ValueError(f"{name} is there {len(entries)} times")
    [entry] = entries
    if entry.flag_bits & 1 or entry.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError(f"{name} is encrypted, or packed by another method than deflate")
    if entry.file_size > limit:
        raise ValueError(f"{name} would have {entry.file_size} bytes")
    return archive.read(entry)


class Arrays(NamedTuple):
    """The content of FILE.safetensors: the arrays by name, and the digest of FILE."""

    arrays: dict[str, np.ndarray]
    file_digest: str | None


def read_arrays(path: Path, header: Header) -> Arrays:
    """Reads FILE.safetensors.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is damaged, or of another export.
    """
    file = arrays_file(path)
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} is missing, which holds the weights of {path}; copy both files together"
        )
    try:
        with safe_open(file, framework="numpy") as opened:
            metadata = opened.metadata() or {}
            if metadata.get("digest") == header.digest:
                arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
                return Arrays(arrays, metadata.get("file"))
    except (SafetensorError, ValueError) as error:
        raise ValueError(f"{file} is damaged ({error}); copy or export it again") from error
    raise ValueError(
        f"{file} isn't of the same export as {path}; copy both files together, or export again"
    )


def digest_of(program: bytes, arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the digest of a program and its arrays."""
    digest = hashlib.sha256(program)
    for name, array in sorted(arrays.items()):
        digest.update(f"{name} {array.dtype} {array.shape} ".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


def read_exported(path: Path, devices: Sequence[Any]) -> tuple[Header, jax.export.Exported, dict]:
    """Returns the header, program and arrays of an exported model, all as they were written.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: as `ExportedSegmenter.load`.
    """
    header, program, digest = read_program(path)
    check_platform(path, header, devices)
    arrays, file_digest = read_arrays(path, header)
    changed = digest is not None and digest != file_digest
    if digest_of(program, arrays) != header.digest:  # a program may not even be parsed before
        either = f"{path} or " if changed or digest is None else ""
        raise ValueError(
            f"{either}{arrays_file(path)} is damaged: program and weights aren't those that were "
            "exported; copy or export both files again"
        )
    try:
        exported = jax.export.deserialize(bytearray(program))
        if header.jax_version != jax.__version__:
            exported.mlir_module()  # fails now instead of with the first image
    except Exception as error:  # jaxlib has many kinds
        raise ValueError(
            f"{path} was exported with jax {header.jax_version}, and jax {jax.__version__} "
            f"can't read it ({error}); upgrade jax, or export the model again with this one"
        ) from error
    check_header(path, header, exported, arrays)
    if changed:
        raise ValueError(
            f"{path} is damaged: it isn't as it was exported; copy or export both files again"
        )
    return header, exported, arrays


def check_header(
    path: Path, header: Header, exported: jax.export.Exported, arrays: Mapping[str, np.ndarray]
):
    """Refuses a header that differs from the program.

    Raises:
        ValueError: the message names the field.
    """
    arguments, _ = jax.tree.unflatten(exported.in_tree, exported.in_avals)
    returned = set(jax.tree.unflatten(exported.out_tree, exported.out_avals))
    expected, image, *_ = arguments
    there = next((task for task, names in RETURNED.items() if names == returned), "none of these")
    for field, said, found in (
        ("task", header.task, there),
        ("size", list(header.size), list(image.shape[:2])),
        ("platforms", sorted(header.platforms), sorted(exported.platforms)),
    ):
        if said != found:
            raise ValueError(
                f"{path}: {HEADER_FILE}.{field} is {said}, and the program's is {found}; copy or "
                "export both files again"
            )
    shapes = {name: (x.shape, x.dtype) for name, x in expected.items()}
    if {name: (x.shape, x.dtype) for name, x in arrays.items()} != shapes:
        raise ValueError(f"{arrays_file(path)} has other weights than {path} takes; export again")


def check_platform(path: Path, header: Header, devices: Sequence[Any]):
    """Refuses devices of platforms that a model wasn't exported for.

    Raises:
        ValueError: there is one; the message says how to export for it.
    """
    kinds = {device.platform for device in devices}
    here = {jax.export.default_export_platform() if kind == "gpu" else kind for kind in kinds}
    if other := sorted(here - set(header.platforms)):
        raise ValueError(
            f"{path} was exported for {', '.join(header.platforms)}, and this is {other[0]}; "
            f"export the model with --platforms {','.join([*header.platforms, *other])}, or choose "
            f"another device (JAX_PLATFORMS={header.platforms[0]})"
        )
