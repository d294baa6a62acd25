"""Pickles, as detectron2 writes them."""

import collections
import pickle
import tracemalloc

import numpy as np
import pytest
from m2f_jax.convert.files.formats import open_tensors

from tests.convert.files.conftest import FLOATS, NUMBERS, check, peak


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickle(tmp_path, protocol):
    path = tmp_path / "model_final.pkl"
    arrays = NUMBERS | {
        "fortran": np.asfortranarray(FLOATS["backbone.weight"]),
        "turned": FLOATS["backbone.weight"].transpose(2, 0, 1),
        "strided": FLOATS["backbone.weight"][::2],
        "big-endian": np.arange(3, dtype=">f4"),
    }
    weights = collections.OrderedDict(arrays)
    weights._metadata = collections.OrderedDict({"": {"version": 2}})
    checkpoint = {
        "model": weights,
        "__author__": "somebody",
        "matching_heuristics": True,
        "best": [np.float32(0.5), np.float64(2), (1, None, b"x")],
    }
    path.write_bytes(pickle.dumps(checkpoint, protocol))
    check(open_tensors(path), arrays | {"big-endian": np.arange(3, dtype=np.float32)})

    path.write_bytes(pickle.dumps(arrays, protocol))
    assert list(open_tensors(path)) == list(arrays)


def test_pickle_by_an_older_numpy_under_another_suffix(tmp_path):
    path = tmp_path / "model_final.pth"
    pickled = pickle.dumps({"model": NUMBERS}, 3)
    assert b"numpy._core" in pickled
    path.write_bytes(pickled.replace(b"numpy._core", b"numpy.core"))
    check(open_tensors(path), NUMBERS)


def test_pickle_by_python_2(tmp_path):
    path = tmp_path / "model_final.pkl"
    array = np.array([1.5, -2.5], "<f4")
    text = b"U" + bytes([array.nbytes]) + array.tobytes()  # SHORT_BINSTRING
    path.write_bytes(
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n"
        b"K\x00\x85U\x01b\x87R(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89" + text + b"tbs."
    )
    check(open_tensors(path), {"a": array})


def test_a_pickle_is_held_once_and_can_be_dropped_bit_by_bit(tmp_path):
    path = tmp_path / "model_final.pkl"
    arrays = {f"layer{i}": np.full(1 << 18, i, np.float32) for i in range(16)}
    path.write_bytes(pickle.dumps({"model": arrays}, 4))
    size = path.stat().st_size

    tensors, opened = peak(lambda: open_tensors(path))
    assert opened < 1.1 * size

    def drop():
        tensors = open_tensors(path)
        for name in list(tensors):
            tensors.pop(name).read()
        return tracemalloc.get_traced_memory()[0]

    left, _ = peak(drop)
    assert left < 0.1 * size
    check(tensors, arrays)
