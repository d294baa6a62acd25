"""Tensors in safetensors, one file or several, and how they are written."""

import errno
import json
import os
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from m2f_jax.convert.files.formats import StoredTensor, open_tensors, write_safetensors

from tests.convert.files.conftest import ALL, FLOATS, RNG, check, peak, save_shards, stored


def test_safetensors(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(ALL, path)
    check(open_tensors(path), ALL)
    check(open_tensors(str(path)), ALL)


def test_safetensors_of_other_numbers_are_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file({"depth": np.ones(2, np.uint16)}, path)
    with pytest.raises(ValueError, match=r"model\.safetensors holds depth as U16"):
        open_tensors(path)


def test_shards(tmp_path):
    index, weight_map = save_shards(tmp_path)
    index.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))
    check(open_tensors(index), FLOATS)

    (tmp_path / "b.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"b\.safetensors, which model.* lists"):
        open_tensors(index)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"more": "a.safetensors"}, "lists 1 tensors that its shards lack, such as more"),
        ({"more": "../a.safetensors"}, "same folder"),
        ({"more": ""}, "same folder"),
        ({"more": "model.safetensors.index.json"}, "JSON and not a shard"),
    ],
)
def test_shards_must_agree_with_their_index(tmp_path, change, message):
    index, weight_map = save_shards(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map | change}))
    with pytest.raises(ValueError, match=message):
        open_tensors(index)


def test_write_safetensors(tmp_path):
    path = tmp_path / "out.safetensors"
    arrays = ALL | {"turned": RNG.normal(size=(3, 4)).astype(np.float32).T}
    write_safetensors(path, stored(arrays), {"format": "pt"})

    check(stored(safetensors.numpy.load_file(path)), arrays)
    check(open_tensors(path), arrays)
    with safetensors.safe_open(path, framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
    [length] = struct.unpack("<Q", path.read_bytes()[:8])
    header = json.loads(path.read_bytes()[8 : 8 + length])
    assert length % 8 == 0
    for name, array in arrays.items():  # or else they could not be used where they lie
        assert header[name]["data_offsets"][0] % array.itemsize == 0
    assert os.listdir(tmp_path) == ["out.safetensors"]


def test_write_safetensors_keeps_the_order_of_like_tensors(tmp_path):
    path = tmp_path / "out.safetensors"
    arrays = {name: np.full(2, i, np.float32) for i, name in enumerate("cab")}
    write_safetensors(path, stored(arrays), {})
    np.testing.assert_array_equal(np.frombuffer(path.read_bytes()[-24:], "<f4"), [0, 0, 1, 1, 2, 2])


def test_write_safetensors_replaces_the_file_that_it_reads(tmp_path):
    path = tmp_path / "model.safetensors"
    safetensors.numpy.save_file(ALL, path)
    write_safetensors(path, open_tensors(path), {})
    check(open_tensors(path), ALL)


def full_disk():
    raise OSError(errno.ENOSPC, "No space left on device")


def odd_failure():
    raise OSError("something else")


@pytest.mark.parametrize(
    ("second", "error", "message"),
    [
        (StoredTensor((2,), np.dtype(np.float32), full_disk), OSError, r"left on device: .*out\."),
        (StoredTensor((2,), np.dtype(np.float32), odd_failure), OSError, "^something else$"),
        (StoredTensor((2,), np.dtype(np.float32), lambda: np.ones(3)), ValueError, "second should"),
        (StoredTensor.of(np.array(["text"])), ValueError, "cannot hold second, which is <U4"),
    ],
)
def test_write_safetensors_leaves_nothing_half_written(tmp_path, second, error, message):
    path = tmp_path / "out.safetensors"
    path.write_bytes(b"as before")
    tensors = {"first": StoredTensor.of(np.ones(2, np.float32)), "second": second}
    with pytest.raises(error, match=message):
        write_safetensors(path, tensors, {})
    assert os.listdir(tmp_path) == ["out.safetensors"]
    assert path.read_bytes() == b"as before"


def test_write_safetensors_into_a_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        write_safetensors(tmp_path / "missing" / "out.safetensors", stored(FLOATS), {})


def test_writing_holds_one_tensor_at_a_time(tmp_path):
    shape, size = (1 << 18,), 1 << 20
    tensor = StoredTensor(shape, np.dtype(np.float32), lambda: np.ones(shape, np.float32))
    tensors = {f"layer{i}": tensor for i in range(16)}
    _, written = peak(lambda: write_safetensors(tmp_path / "out.safetensors", tensors, {}))
    assert written < 2.5 * size
