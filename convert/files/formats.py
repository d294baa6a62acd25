"""Tensors in checkpoint files, read one at a time, without PyTorch and without trusting the file.

The format is told by a file's first bytes, so a pickle named .pth opens too.
"""

import contextlib
import functools
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from safetensors import safe_open

from m2f_jax.files import read_json, replacing

from .pickle_machine import RefusedError
from .pickles import DTYPES, Array, View, unpickle

_TORCH_LEGACY_MAGIC = b"\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
REPEATED = 8  # the most bytes of a file's tensors per byte of the file, as views may repeat some
SPARE = 2**24  # bytes of tensors that a file may have beyond that
ENCRYPTED = 1  # a flag of entries of zip files
_SUFFIXES = ".safetensors, .safetensors.index.json, .pkl, .pth, .pt, .ckpt or .bin"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor that is still in its file.

    Attributes:
        shape: of the array that `read` returns.
        dtype: of that array.
        read: returns a new array or a read-only one, in any memory order.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    read: Callable[[], np.ndarray]

    @classmethod
    def of(cls, array: np.ndarray) -> "StoredTensor":
        """Wraps an array in memory as a stored tensor."""
        return cls(array.shape, array.dtype, lambda: array)


def open_tensors(path: str | os.PathLike[str]) -> dict[str, StoredTensor]:
    """Opens a checkpoint file and returns its tensors by name; of a training state, the model's.

    Only a pickle is loaded as a whole, in bounded time and memory. Its arrays live as long as the
    entries of the returned dict: `pop` each to release it after use.

    Raises:
        FileNotFoundError: the file, or a shard that it lists, is missing.
        ValueError: the file is damaged, of another kind, needs more than arrays to be opened, or
            claims tensors far larger than itself.
    """
    path = Path(path)
    return _reader(path)(path)


def write_safetensors(
    path: str | os.PathLike[str],
    tensors: Mapping[str, StoredTensor],
    metadata: Mapping[str, str],
) -> None:
    """Writes tensors while holding one at a time; the file appears when it is complete.

    They are stored in the given order, but wider dtypes before narrower ones, which aligns them.

    Raises:
        ValueError: a tensor has a dtype that safetensors lacks, or was read as another one than
            declared.
        OSError: the file can't be written.
    """
    path = Path(path)
    codes = {dtype: code for code, dtype in DTYPES.items()}
    ordered = sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize)
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in ordered:
        if tensor.dtype not in codes:
            raise ValueError(f"{path}: safetensors cannot hold {name}, which is {tensor.dtype}")
        start, end = end, end + math.prod(tensor.shape) * tensor.dtype.itemsize
        header[name] = {
            "dtype": codes[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": (start, end),
        }
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)

    try:
        with replacing(path) as unfinished, unfinished.open("xb") as file:
            file.write(struct.pack("<Q", len(encoded)) + encoded)
            for name, tensor in ordered:
                array = tensor.read()
                if (array.shape, array.dtype) != (tensor.shape, tensor.dtype):
                    raise ValueError(
                        f"{path}: {name} should be {tensor.dtype} of shape {tensor.shape}, "
                        f"but was read as {array.dtype} of shape {array.shape}"
                    )
                file.write(array.ravel().view(np.uint8).data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk doesn't name the file
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise


def _reader(path: Path) -> Callable[[Path], dict[str, StoredTensor]]:
    """Returns the function that opens files of this kind, judged by the first bytes."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder; give the checkpoint file in it ({_SUFFIXES})")
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist; give the path of a checkpoint file ({_SUFFIXES})"
        )
    if not path.is_file():
        raise ValueError(f"{path} is no file; give the path of a checkpoint file ({_SUFFIXES})")
    with path.open("rb") as file:
        head = file.read(64)
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 2**32:
        return _open_safetensors
    if head.startswith(b"PK\x03\x04"):
        return _open_torch
    if _TORCH_LEGACY_MAGIC in head:
        raise ValueError(
            f"{path} is in the format that PyTorch wrote before 1.6; load it with PyTorch and "
            "torch.save its weights again, or save them as safetensors"
        )
    if head.startswith(b"\x80"):
        return _open_pickle
    if text.startswith(b"{"):
        return _open_shards
    if head.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"{path} is a git-lfs pointer, not the file that it stands for; "
            "run `git lfs pull`, or download the file itself"
        )
    if text.startswith(b"<"):
        raise ValueError(f"{path} is a web page, not a checkpoint; download the file itself")
    if not head:
        raise ValueError(f"{path} is empty; download it again")
    raise ValueError(
        f"{path} begins with {head[:16]!r}, unlike any checkpoint that can be read "
        f"({_SUFFIXES}); if it should be one of these, download it again"
    )


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    def read(shape: tuple[int, ...], dtype: np.dtype, start: int) -> np.ndarray:
        size = math.prod(shape) * dtype.itemsize
        with _explained(path, "a safetensors file"):
            content = np.fromfile(path, np.uint8, size, offset=start)
            return content.view(dtype).reshape(shape)

    tensors = {}
    with _explained(path, "a safetensors file"):
        with safe_open(path, framework="numpy"):
            pass  # the header is sound, and the file as long as it says
        with path.open("rb") as file:
            [length] = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in header.items():
            if (code := entry["dtype"]) not in DTYPES:
                raise RefusedError(f"holds {name} as {code}; save it as float32 and try again")
            shape, dtype = tuple(entry["shape"]), DTYPES[code]
            start = 8 + length + entry["data_offsets"][0]
            tensors[name] = StoredTensor(shape, dtype, functools.partial(read, shape, dtype, start))
    return tensors


def _open_shards(path: Path) -> dict[str, StoredTensor]:
    with _explained(path, "JSON"):
        match read_json(path):
            case {"weight_map": dict(weight_map)}:
                pass
            case _:
                raise RefusedError("has no weight_map: it is not the index of a checkpoint")
        for name, shard in weight_map.items():
            if not isinstance(shard, str):
                raise RefusedError(f"has {shard!r:.80} as weight_map.{name}, which names no file")
            if not shard or shard in (".", "..") or shard != Path(shard).name:
                raise RefusedError(f"lists {shard!r}; shards lie in the same folder as the index")
    tensors = {}
    for shard in dict.fromkeys(weight_map.values()):
        shard_path = path.with_name(shard)
        if not shard_path.exists():
            raise FileNotFoundError(f"{shard_path}, which {path.name} lists, does not exist")
        if (reader := _reader(shard_path)) is _open_shards:
            raise ValueError(f"{path} lists {shard}, which is JSON and not a shard of tensors")
        tensors |= reader(shard_path)
    if missing := sorted(weight_map.keys() - tensors.keys()):
        raise ValueError(
            f"{path} lists {len(missing)} tensors that its shards lack, such as {missing[0]}; "
            "download index and shards again, from the same place"
        )
    return tensors


def _open_pickle(path: Path) -> dict[str, StoredTensor]:
    with _explained(path, "a pickle"), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        weights = _weights(unpickle(file, size))
        return _accounted({name: _held(name, value) for name, value in weights.items()}, size)


def _open_torch(path: Path) -> dict[str, StoredTensor]:
    with (
        _explained(path, "a zip file"),
        path.open("rb") as file,
        zipfile.ZipFile(file) as archive,
    ):
        entries: dict[str, zipfile.ZipInfo] = {}
        for entry in archive.infolist():
            if entries.setdefault(entry.filename, entry) is not entry:
                raise RefusedError(f"has two entries called {entry.filename}")
        pickles = [name for name in entries if name.endswith("/data.pkl")]
        if "program.jax_export" in entries:
            raise RefusedError(
                "is an exported model, which is a program; name the model that it was made of"
            )
        if len(pickles) != 1:
            raise RefusedError("is a zip file but not a checkpoint by PyTorch: it has no data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if order := entries.get(root + "byteorder"):
            file.seek(_start(file, order))
            if file.read(min(order.file_size, 4)) == b"big":
                raise RefusedError(
                    "was written by a big-endian machine; save it as safetensors there"
                )
        pickled = entries[pickles[0]]
        file.seek(_start(file, pickled))
        weights = _weights(unpickle(file, pickled.file_size))
        tensors = {}
        for name, value in weights.items():
            if isinstance(value, View):
                entry = entries.get(f"{root}data/{value.storage.key}")
                if entry is None:
                    raise ValueError(f"the numbers of {name} are missing")
                tensors[name] = _placed(name, value, path, _start(file, entry), entry)
            else:
                tensors[name] = _held(name, value)
        return _accounted(tensors, os.fstat(file.fileno()).st_size)


def _weights(content: object) -> dict[str, Any]:
    """Returns the dict of tensors in a pickle: that of its model, or the pickle itself."""
    match content:
        case {"model": dict(weights)} | {"state_dict": dict(weights)} | dict(weights):
            if not all(isinstance(name, str) for name in weights):
                raise RefusedError("names tensors by something other than strings")
            return weights
    raise RefusedError(f"holds a {type(content).__name__}, not a dict of tensors")


def _held(name: str, value: object) -> StoredTensor:
    if not isinstance(value, Array):
        raise RefusedError(
            f"has {name!r}, which is {type(value).__name__} and no tensor, and no dict of tensors "
            "under 'model' or 'state_dict'"
        )
    return StoredTensor.of(value.array)


def _accounted(tensors: dict[str, StoredTensor], size: int) -> dict[str, StoredTensor]:
    """Returns a file's tensors if they aren't far larger than the file, which has `size` bytes.

    Raises:
        RefusedError: they are: views repeat the stored numbers too often.
    """
    claimed = {name: math.prod(x.shape) * x.dtype.itemsize for name, x in tensors.items()}
    if sum(claimed.values()) > REPEATED * size + SPARE:
        largest = max(claimed, key=claimed.__getitem__)
        raise RefusedError(
            f"holds {size} bytes, of which it would make tensors of {sum(claimed.values())}, such "
            f"as {largest} {list(tensors[largest].shape)}; save its tensors without expanding them"
        )
    return tensors


def _start(file: BinaryIO, entry: zipfile.ZipInfo) -> int:
    """Returns the offset of an entry's bytes in a zip file by PyTorch, which does not compress."""
    if entry.flag_bits & ENCRYPTED or entry.compress_type != zipfile.ZIP_STORED:
        raise RefusedError(
            f"has {entry.filename} compressed or encrypted, which PyTorch never does; save it with "
            "PyTorch again"
        )
    file.seek(entry.header_offset)
    signature, name_length, extra_length = struct.unpack("<4s22xHH", file.read(30))
    start = file.tell() + name_length + extra_length
    inside = start + entry.file_size <= os.fstat(file.fileno()).st_size
    if signature != b"PK\x03\x04" or not inside:
        raise ValueError(f"bad entry {entry.filename}")
    return start


def _placed(name: str, view: View, path: Path, start: int, entry: zipfile.ZipInfo) -> StoredTensor:
    """Returns the tensor of a view; its storage, an entry, begins at byte `start` of the file."""
    dtype = DTYPES[view.storage.code]
    if entry.file_size < view.storage.size * dtype.itemsize:
        raise ValueError(f"bad entry {entry.filename}")
    steps = [(length - 1) * stride for length, stride in zip(view.shape, view.strides, strict=True)]
    span = 1 + sum(steps) if all(view.shape) else 0
    if view.offset + span > view.storage.size:
        raise ValueError(f"{name} reaches beyond its storage")
    # PyTorch writes 0 where it was told to compute none.
    checked = entry.CRC != 0 and (view.offset, span * dtype.itemsize) == (0, entry.file_size)

    def read() -> np.ndarray:
        offset = start + view.offset * dtype.itemsize
        strides = [stride * dtype.itemsize for stride in view.strides]
        with _explained(path, "a zip file"):
            raw = np.fromfile(path, np.uint8, count=span * dtype.itemsize, offset=offset)
            if raw.size != span * dtype.itemsize:
                raise EOFError(f"{name} is cut off")
            if checked and zlib.crc32(raw.data) != entry.CRC:
                raise ValueError(f"{name} has a wrong checksum")
            return np.asarray(np.ndarray(view.shape, dtype, raw, strides=strides), order="C")

    return StoredTensor(view.shape, dtype, read)


@contextlib.contextmanager
def _explained(path: Path, kind: str) -> Iterator[None]:
    """Turns errors of reading into ValueErrors; damaged bytes may raise any kind."""
    try:
        yield
    except RefusedError as error:
        raise ValueError(f"{path} {error}") from None
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(
            f"{path} is {kind} that is incomplete or damaged "
            f"({type(error).__name__}: {error}); download it again"
        ) from error
