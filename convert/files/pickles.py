"""Reads pickles of arrays without trusting them.

A pickle names functions to call. The few that arrays need have stand-ins here, which only keep
data; no other function is looked up.
"""

import io
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from .pickle_machine import Budget, Function, Machine, RefusedError, Stateful, brief, key_of

AXES = 32  # of an array, as in old numpy

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


def unpickle(file: Any, size: int) -> object:
    """Returns a pickle's content: dicts, lists, strings, numbers; `Array` or `View` for tensors.

    Args:
        file: open where the pickle begins.
        size: the most bytes that the pickle may have.

    Raises:
        RefusedError: it names a function that arrays don't need, or exceeds its budget.
        Exception: any, if it is damaged.
    """
    return Machine(Budget.of(size), find, refer).run(file, size)


class Dict(dict, Stateful):
    """Stands in for an ordered dict; attributes, such as a state dict's _metadata, are dropped."""

    def set_state(self, budget: Budget, state: Any):
        """Ignores attributes."""


class Dtype(Stateful):
    """Stands in for numpy.dtype: a number's kind and size, such as "f4", and its byte order."""

    def __init__(self, kind: str):
        self.kind = kind
        self.order: Any = "="

    def set_state(self, budget: Budget, state: Any):  # noqa: ARG002
        """Sets the byte order."""
        if not isinstance(state[1], str):
            raise ValueError(f"{brief(state[1])} is no order of bytes")
        self.order = state[1]

    def array(self, budget: Budget, data: Any, shape: Any, order: Any = "C") -> np.ndarray:
        """Returns an array over data, which is copied only to change its byte order."""
        if self.kind not in _PICKLED_DTYPES:
            raise RefusedError(f"holds an array of {self.kind}, not of numbers; remove it there")
        if isinstance(data, str):  # as Python 2 wrote bytes
            data = _encode(budget, data, "latin1")
        dtype = _PICKLED_DTYPES[self.kind].newbyteorder(self.order)
        array = np.frombuffer(data, dtype).reshape(sizes(shape), order=order)
        native = dtype.newbyteorder("=")
        if dtype != native:
            budget.copy(array.nbytes)
        return array.astype(native, copy=False)


class Array(Stateful):
    """Stands in for numpy's _reconstruct: an array that is filled when its state is set."""

    array: np.ndarray

    def set_state(self, budget: Budget, state: Any):
        """Makes the array."""
        _version, shape, dtype, is_fortran, data = state
        self.array = dtype.array(budget, data, shape, "F" if is_fortran else "C")


class Storage(NamedTuple):
    """Where PyTorch keeps the numbers of tensors."""

    code: str  # of the dtype, a key of DTYPES
    key: str  # the name of its entry in the file
    size: int  # in numbers


class Numbers(NamedTuple):
    """A storage within the pickle, as of tensors that are pickled without torch.save."""

    array: np.ndarray


class View(NamedTuple):
    """A tensor as PyTorch pickles it: a part of a storage; offset and strides count numbers."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def sizes(values: Any) -> tuple[int, ...]:
    """Returns a shape or strides from a pickle.

    Raises:
        ValueError: it isn't one.
    """
    if not isinstance(values, tuple | list) or len(values) > AXES:
        raise ValueError(f"a {type(values).__name__} is no shape of up to {AXES} axes")
    if not all(type(value) is int and 0 <= value < 2**63 for value in values):
        raise ValueError("a shape has something else than sizes")
    return tuple(values)


def _dict(budget: Budget, items: Any = ()) -> Dict:
    budget.copy(64 * len(items))
    pairs = items.items() if isinstance(items, dict) else items
    return Dict((key_of(key), value) for key, value in pairs)


def _size(_budget: Budget, values: Any = ()) -> tuple[int, ...]:
    return sizes(values)


def _dtype(_budget: Budget, kind: Any, *_flags: object) -> Dtype:
    if not isinstance(kind, str):
        raise RefusedError(f"holds an array of {brief(kind)}, not of numbers; remove it there")
    return Dtype(kind[:80])


def _reconstruct(_budget: Budget, *_prototype: object) -> Array:
    return Array()


def _scalar(budget: Budget, dtype: Any, data: Any) -> bool | float:
    return dtype.array(budget, data, ()).item()


def _frombuffer(
    budget: Budget, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None
) -> Array:
    result = Array()
    if axes is None:
        result.array = dtype.array(budget, data, shape, order)
    else:
        result.array = dtype.array(budget, data, shape).transpose(sizes(axes))
    return result


def _encode(budget: Budget, text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError(f"{brief(text)} is no text")
    if encoding != "latin1":
        raise RefusedError(f"asks to encode text as {brief(encoding)}, where arrays are latin1")
    budget.copy(len(text))
    return text.encode("latin1")


def _bytes(_budget: Budget) -> bytes:  # empty ones, as Python 2 has no literal for them
    return b""


def _rebuild_tensor(
    _budget: Budget,
    storage: Any,
    offset: Any,
    shape: Any,
    strides: Any,
    _grad: Any,
    _hooks: Any,
) -> View | Array:  # a seventh argument would say that the numbers are negated or conjugated
    shape, strides, [offset] = sizes(shape), sizes(strides), sizes([offset])
    if isinstance(storage, Storage):
        return View(storage, offset, shape, strides)
    if not isinstance(storage, Numbers):
        raise ValueError(f"{brief(storage)} is no storage of a tensor")
    steps = [stride * storage.array.itemsize for stride in strides]
    start = offset * storage.array.itemsize
    result = Array()  # numpy refuses what reaches beyond the storage
    result.array = np.ndarray(shape, storage.array.dtype, storage.array, start, steps)
    return result


def _rebuild_parameter(_budget: Budget, tensor: Any, *_: Any) -> Any:
    return tensor


def _load_from_bytes(budget: Budget, data: Any = b"") -> Numbers:
    """Returns the storage in bytes of PyTorch's old format, in which plain pickles hold tensors."""
    if not isinstance(data, bytes) or not data.startswith(_LEGACY_BEGIN):
        raise RefusedError("asks for torch.storage._load_from_bytes of something else")
    file = io.BytesIO(data)
    file.seek(len(_LEGACY_BEGIN))
    machine = Machine(budget, find_name, refer_whole)
    system, storage, keys = (machine.run(file, len(data) - file.tell()) for _ in range(3))
    match system, storage, keys:
        case {"little_endian": bool(little_endian)}, Storage(), [str(key)] if key == storage.key:
            pass
        case _:
            raise RefusedError("asks for torch.storage._load_from_bytes of something else")
    if not little_endian:
        raise RefusedError("was written by a big-endian machine; save it as safetensors there")
    size = int.from_bytes(file.read(8), "little")
    array = np.frombuffer(data, DTYPES[storage.code], storage.size, file.tell())
    if size != storage.size or file.tell() + array.nbytes != len(data):
        raise ValueError(f"storage {storage.key} has {size} numbers, not {storage.size}")
    return Numbers(array)


# A magic number and a version, each a pickle of its own.
_LEGACY_BEGIN = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."


_ADMITTED: dict[tuple[str, str], str | Function] = {
    **{("torch", storage): code for code, _, storage in _KINDS},
    ("torch.storage", "UntypedStorage"): "U8",
    ("torch", "Size"): Function(_size),
    ("torch._utils", "_rebuild_parameter"): Function(_rebuild_parameter),
    ("torch._utils", "_rebuild_tensor_v2"): Function(_rebuild_tensor),
    ("torch.storage", "_load_from_bytes"): Function(_load_from_bytes),
    ("numpy", "dtype"): Function(_dtype),
    ("numpy", "ndarray"): "ndarray",  # only an argument of _reconstruct
    ("numpy._core.multiarray", "_reconstruct"): Function(_reconstruct),
    ("numpy._core.multiarray", "scalar"): Function(_scalar),
    ("numpy._core.numeric", "_frombuffer"): Function(_frombuffer),
    ("_codecs", "encode"): Function(_encode),
    ("__builtin__", "bytes"): Function(_bytes),
    ("collections", "Counter"): Function(_dict),
    ("collections", "OrderedDict"): Function(_dict),
}


def find(module: str, name: str) -> str | Function:
    """Returns the stand-in for a function or a constant.

    Raises:
        RefusedError: there is none.
    """
    key = module[:80].replace("numpy.core", "numpy._core"), name
    if key not in _ADMITTED:
        raise RefusedError(
            f"asks for {module[:80]}.{name[:80]}, which arrays do not need and which might run "
            "any code; nothing was run. Get the file from a source that you trust, or open it "
            "where it was made and save only its tensors, best as safetensors: "
            "torch.save(model.state_dict(), 'weights.pth')"
        )
    return _ADMITTED[key]


def refer(reference: Any) -> Storage:
    """Returns the storage that a persistent id describes.

    Raises:
        RefusedError: it describes none.
    """
    match reference:
        case ("storage", str(code), str(key), _, int(size)) if code in DTYPES:
            return Storage(code, key, size)
    raise RefusedError(f"refers to {brief(reference)}, which is no storage of a tensor")


def find_name(module: str, name: str) -> str:
    """Returns what `find` does, but refuses functions, in the description of a storage."""
    found = find(module, name)
    if not isinstance(found, str):
        raise RefusedError(f"asks for {module}.{name} to describe a storage")
    return found


def refer_whole(reference: Any) -> Storage:
    """Returns what `refer` does, but refuses views of other storages, in PyTorch's old format."""
    match reference:
        case (*first, None) if len(first) == 5:
            return refer(tuple(first))
    raise RefusedError(f"refers to {brief(reference)}, which is no storage of a tensor")
