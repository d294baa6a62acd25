"""What tests of checkpoint files share: arrays of all kinds, and files that hold them."""

import pickle
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from m2f_jax.convert.files.formats import StoredTensor, open_tensors

RNG = np.random.default_rng(0)
FLOATS = {
    "backbone.weight": RNG.normal(size=(3, 4, 2)).astype(np.float32),
    "backbone.bias": RNG.normal(size=4).astype(np.float32),
    "scale": np.array(2.5, np.float32),
    "empty": np.zeros((0, 3), np.float32),
}
NUMBERS = FLOATS | {
    "half": RNG.normal(size=(2, 3)).astype(np.float16),
    "double": RNG.normal(size=2),
    "index": np.arange(6).reshape(2, 3) - 3,
    "small": np.arange(3, dtype=np.int8),
    "byte": np.arange(3, dtype=np.uint8),
    "flag": np.array([True, False, True]),
}
ALL = NUMBERS | {"brain": RNG.normal(size=(5, 3)).astype(ml_dtypes.bfloat16)}


def check(tensors, want):
    assert tensors.keys() == want.keys()
    for name, tensor in tensors.items():
        assert (tensor.shape, tensor.dtype) == (want[name].shape, want[name].dtype), name
        array = tensor.read()
        assert array.dtype == want[name].dtype
        np.testing.assert_array_equal(array, want[name], strict=True, err_msg=name)


def stored(arrays):
    return {name: StoredTensor.of(array) for name, array in arrays.items()}


def peak(function):
    """What a function returns, and how many bytes it had allocated at the most."""
    tracemalloc.start()
    try:
        return function(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def peak_of_refusal(path, message):
    """How many bytes are allocated until a file is refused."""

    def refuse():
        with pytest.raises(ValueError, match=message):
            open_tensors(path)

    return peak(refuse)[1]


def data(value):
    """The opcodes that put a plain value on a pickle's stack."""
    return pickle.dumps(value, 2)[2:-1]


def view(key, storage, size, offset, shape, strides):
    """The opcodes with which PyTorch pickles a tensor."""
    return (
        b"ctorch._utils\n_rebuild_tensor_v2\n((" + data("storage") + storage + data(key)
        + data("cpu") + data(size) + b"tQ" + data(offset) + data(shape) + data(strides)
        + b"\x89ccollections\nOrderedDict\n)RtR"
    )  # fmt: skip


def save_zip(path, tensors, storages, byteorder=b"little"):
    """What torch.save({"model": tensors}) writes."""
    items = b"".join(data(name) + opcodes + b"s" for name, opcodes in tensors.items())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}" + data("model") + b"}" + items + b"s.")
        if byteorder:  # as PyTorch writes it from 2.0 on
            archive.writestr("archive/byteorder", byteorder)
        for key, array in storages.items():
            archive.writestr(f"archive/data/{key}", array.tobytes())


FLOAT = b"ctorch\nFloatStorage\n"


TWELVE = np.arange(12, dtype=np.float32)


def save_shards(folder):
    names = list(FLOATS)
    for shard, part in (("a.safetensors", names[:2]), ("b.safetensors", names[2:])):
        safetensors.numpy.save_file({name: FLOATS[name] for name in part}, folder / shard)
    weight_map = dict.fromkeys(names[:2], "a.safetensors") | dict.fromkeys(
        names[2:], "b.safetensors"
    )
    return folder / "model.safetensors.index.json", weight_map
