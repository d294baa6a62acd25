"""Reads pickles without trusting them.

A pickle names functions to be called. The few that arrays need have stand-ins here that only keep
data; no other function is looked up.
"""

import io
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import ml_dtypes
import numpy as np

_KINDS = (  # of numbers: the names by which safetensors, numpy and PyTorch store them
    ("BOOL", np.bool_, "BoolStorage"),
    ("U8", np.uint8, "ByteStorage"),
    ("I8", np.int8, "CharStorage"),
    ("I16", np.int16, "ShortStorage"),
    ("I32", np.int32, "IntStorage"),
    ("I64", np.int64, "LongStorage"),
    ("F16", np.float16, "HalfStorage"),
    ("BF16", ml_dtypes.bfloat16, "BFloat16Storage"),
    ("F32", np.float32, "FloatStorage"),
    ("F64", np.float64, "DoubleStorage"),
)
DTYPES = {code: np.dtype(number) for code, number, _ in _KINDS}
_PICKLED_DTYPES = {dtype.str[1:]: dtype for code, dtype in DTYPES.items() if code != "BF16"}


class RefusedError(ValueError):
    """The file is complete but can't be read; the message continues after the file's name."""


def unpickle(file: Any) -> object:
    """Returns what a pickle holds: dicts, lists, strings, numbers; `Array` or `View` for tensors.

    Raises:
        RefusedError: it asks for more than arrays need.
        Exception: of any kind, where bytes are bad.
    """
    return _Unpickler(file).load()


class _Dict(dict):
    """Stands in for an ordered dict; attributes, such as a state dict's _metadata, are dropped."""

    def __setstate__(self, state: object) -> None:
        pass


class _Dtype:
    """Stands in for numpy.dtype: a number's kind and size, such as "f4", and its byte order."""

    def __init__(self, kind: str, *_flags: object):
        self.kind = kind
        self.order: Any = "="

    def __setstate__(self, state: tuple) -> None:
        self.order = state[1]

    def array(self, data: Any, shape: tuple, order: Any = "C") -> np.ndarray:
        """Returns an array over data, without a copy where the byte order is this machine's."""
        if self.kind not in _PICKLED_DTYPES:
            raise RefusedError(f"holds an array of {self.kind}, not of numbers; remove it there")
        if isinstance(data, str):  # as Python 2 wrote bytes
            data = data.encode("latin1")
        dtype = _PICKLED_DTYPES[self.kind].newbyteorder(self.order)
        array = np.frombuffer(data, dtype).reshape(shape, order=order)
        return array.astype(dtype.newbyteorder("="), copy=False)


class Array:
    """Stands in for numpy's _reconstruct: an array that is filled when its state is set."""

    array: np.ndarray

    def __init__(self, *_prototype: object):
        pass

    def __setstate__(self, state: tuple) -> None:
        _version, shape, dtype, is_fortran, data = state
        self.array = dtype.array(data, shape, "F" if is_fortran else "C")


class Storage(NamedTuple):
    """Where PyTorch keeps the numbers of tensors: their kind, an entry's name, and how many."""

    code: str
    key: str
    size: int


class Numbers(NamedTuple):
    """A storage that is in the pickle itself, as where tensors are pickled without torch.save."""

    array: np.ndarray


class View(NamedTuple):
    """A tensor as PyTorch pickles it: part of a storage, in elements and not in bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Function(NamedTuple):
    """A function that a pickle can call but not alter."""

    function: Callable[..., Any]

    def __call__(self, *arguments: Any) -> Any:
        return self.function(*arguments)


def _scalar(dtype: _Dtype, data: Any) -> bool | float:
    return dtype.array(data, ()).item()


def _frombuffer(data: Any, dtype: _Dtype, shape: tuple, order: str, axes: Any = None) -> Array:
    result = Array()
    if axes is None:
        result.array = dtype.array(data, shape, order)
    else:
        result.array = dtype.array(data, shape).transpose(axes)
    return result


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":
        raise RefusedError(f"asks to encode text as {encoding}, where arrays are latin1")
    return text.encode("latin1")


def _rebuild_tensor(
    storage: Storage | Numbers,
    offset: int,
    shape: tuple,
    strides: tuple,
    _grad: bool,
    _hooks: Any,
) -> View | Array:  # a seventh argument would say that the numbers are negated or conjugated
    if isinstance(storage, Storage):
        return View(storage, offset, tuple(shape), tuple(strides))
    steps = [stride * storage.array.itemsize for stride in strides]
    start = offset * storage.array.itemsize
    result = Array()  # numpy refuses what reaches beyond the storage
    result.array = np.ndarray(shape, storage.array.dtype, storage.array, start, steps)
    return result


def _rebuild_parameter(tensor: View | Array, *_: Any) -> View | Array:
    return tensor


def _load_from_bytes(data: bytes = b"") -> Numbers:
    """Returns the storage in bytes of PyTorch's old format, in which plain pickles hold tensors."""
    file = io.BytesIO(data)
    if not data.startswith(_LEGACY_BEGIN):
        raise RefusedError("asks for torch.storage._load_from_bytes of something else")
    file.seek(len(_LEGACY_BEGIN))
    system = _StorageUnpickler(file).load()
    storage = _StorageUnpickler(file).load()
    keys = _StorageUnpickler(file).load()
    if not isinstance(storage, Storage) or keys != [storage.key]:
        raise RefusedError("asks for torch.storage._load_from_bytes of something else")
    if not system["little_endian"]:
        raise RefusedError("was written by a big-endian machine; save it as safetensors there")
    size = int.from_bytes(file.read(8), "little")
    array = np.frombuffer(data, DTYPES[storage.code], storage.size, file.tell())
    if size != storage.size or file.tell() + array.nbytes != len(data):
        raise ValueError(f"storage {storage.key} has {size} numbers, not {storage.size}")
    return Numbers(array)


# A magic number and a version, each a pickle of its own.
_LEGACY_BEGIN = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


_ADMITTED = {
    **{("torch", storage): code for code, _, storage in _KINDS},
    ("torch.storage", "UntypedStorage"): "U8",
    ("torch", "Size"): tuple,
    ("torch._utils", "_rebuild_parameter"): _Function(_rebuild_parameter),
    ("torch._utils", "_rebuild_tensor_v2"): _Function(_rebuild_tensor),
    ("torch.storage", "_load_from_bytes"): _Function(_load_from_bytes),
    ("numpy", "dtype"): _Dtype,
    ("numpy", "ndarray"): "ndarray",  # only an argument of _reconstruct
    ("numpy._core.multiarray", "_reconstruct"): Array,
    ("numpy._core.multiarray", "scalar"): _Function(_scalar),
    ("numpy._core.numeric", "_frombuffer"): _Function(_frombuffer),
    ("_codecs", "encode"): _Function(_encode),
    ("__builtin__", "bytes"): bytes,  # called without arguments, for empty arrays
    ("collections", "Counter"): _Dict,
    ("collections", "OrderedDict"): _Dict,
}


class _Unpickler(pickle._Unpickler):
    """Unpickles dicts, lists, strings and numbers, and Array and View for tensors.

    A pickle can call, and set the state of, whatever find_class returns. So that is nothing of
    Python's or numpy's that acts (numpy's own __setstate__ can be made to read any address), and
    nothing that one pickle could alter for the next.

    This is the form of pickle.Unpickler that is written in Python: the one in C lets a single bad
    byte demand 64 GB (of a memo of 2**32 entries) and takes extension codes from a cache unasked.
    """

    def __init__(self, file: Any):
        super().__init__(file, encoding="latin1")

    def get_extension(self, code: int) -> NoReturn:
        raise RefusedError(f"uses extension code {code}, which arrays do not need")

    def find_class(self, module: str, name: str) -> Any:
        key = module.replace("numpy.core", "numpy._core"), name
        if key not in _ADMITTED:
            raise RefusedError(
                f"asks for {module}.{name}, which arrays do not need and which might run any code; "
                "nothing was run. Get the file from a source that you trust, or open it where it "
                "was made and save only its tensors, best as safetensors"
            )
        return _ADMITTED[key]

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            case ("storage", str(code), str(key), _, int(size)) if code in DTYPES:
                return Storage(code, key, size)
        raise RefusedError(f"refers to {pid!r}, which is no storage of a tensor")


class _StorageUnpickler(_Unpickler):
    """Unpickles what is said of a storage in front of its numbers: names, and no calls."""

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if not isinstance(found, str):
            raise RefusedError(f"asks for {module}.{name} to describe a storage")
        return found

    def persistent_load(self, pid: Any) -> Storage:
        match pid:
            case (*first, None) if len(first) == 5:  # the last would make it part of another
                return super().persistent_load(tuple(first))
        raise RefusedError(f"refers to {pid!r}, which is no storage of a tensor")
