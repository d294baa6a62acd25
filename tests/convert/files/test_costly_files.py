"""Files that would cost more than their size accounts for."""

import json
import os
import pickle
import struct
import zipfile

import numpy as np
import pytest
from m2f_jax.convert.files import pickle_machine
from m2f_jax.convert.files.formats import open_tensors

from tests.convert.files.conftest import (
    FLOAT,
    TWELVE,
    check,
    data,
    peak_of_refusal,
    save_shards,
    save_zip,
    view,
)


def nested(depth, opcode):
    """A tuple in a tuple, as often as `depth`; of two each with DUP and TUPLE2."""
    return b")" + opcode * depth


def called(module, name, arguments, times):
    """Calls a function so often, with arguments that are in the file once."""
    opcodes = f"c{module}\n{name}\n".encode() + b"q\xfa" + arguments + b"q\xfb"
    return b"(" + opcodes + b"h\xfah\xfbR" * times + b"t"


LONG_TEXT = b"X" + struct.pack("<I", 10**6) + b"a" * 10**6
BIG_ENDIAN = (
    b"cnumpy\ndtype\nX\x02\0\0\0f4\x85R(K\x03X\x01\0\0\0>tbq\x02"  # and its state
    + b"cnumpy.core.multiarray\n_reconstruct\n)R"
    + b"(K\x01K\xfa\x85h\x02\x89B\xe8\x03\0\0" + bytes(1000) + b"tq\x03b"
)  # fmt: skip
COSTLY = {  # the values of a tensor; and what is said of it
    "a deep key": (b"}" + nested(2000, b"\x85") + b"Ns", "has a tuple as a key"),
    "a doubled key": (b"}" + nested(60, b"2\x86") + b"Ns", "has a tuple as a key"),
    "a doubled member": (b"\x8f(" + nested(60, b"2\x86") + b"\x90", "has a tuple as a key"),
    "a doubled key of a call": (
        called("collections", "OrderedDict", b"](" + nested(60, b"2\x86") + b"N\x86e\x85", 1),
        "has a tuple as a key",
    ),
    "keys of one hash": (
        b"}(" + data(2**61 - 1) + b"N" + data(2**62 - 2) + b"Nu",
        "a int as a key",
    ),
    "a doubled reference": (nested(60, b"2\x86") + b"Q", "refers to a tuple"),
    "a doubled encoding": (
        b"c_codecs\nencode\n" + data("x") + nested(60, b"2\x86") + b"\x86R",
        "encode text as a tuple",
    ),
    "a doubled kind": (b"cnumpy\ndtype\n" + nested(60, b"2\x86") + b"\x85R", "array of a tuple"),
    "16 GB of bytes": (b"\x96" + struct.pack("<Q", 2**34) + b"abc", "damaged .*17179869184 bytes"),
    "a frame of 2^62": (b"\x8e" + struct.pack("<Q", 2**62), "damaged .*4611686018427387904 bytes"),
    "a number of 2 GB": (b"\x8b" + struct.pack("<i", 2**31 - 1), "damaged .*2147483647 bytes"),
    "bytes of a number": (b"c__builtin__\nbytes\n" + data(2**40) + b"\x85R", "damaged .TypeError"),
    "copies of text": (
        called("_codecs", "encode", LONG_TEXT + data("latin1") + b"\x86", 100),
        "more copies",
    ),
    "copies of a dict": (
        called("collections", "OrderedDict", b"](" + b"K\x01N\x86" * 100 + b"e\x85", 1000),
        "more copies",
    ),
    "copies of bytes in order": (BIG_ENDIAN + b"h\x03b" * 3000, "more copies"),
    "a long shape": (
        called("torch", "Size", b"(" + b"K\x01" * 33 + b"t\x85", 1),
        "no shape of up to 32 axes",
    ),
    "many arguments": (
        called("numpy.core.multiarray", "_reconstruct", b"(" + b"K\x01" * 17 + b"t", 1),
        "no list of arguments",
    ),
    "a memo of any number": (b"Np" + str(2**61 - 1).encode() + b"\n", "no number of 32 bits"),
    "other objects": (b"ccollections\nOrderedDict\n)\x81", "uses NEWOBJ"),
    "a state for a class": (b"ctorch\nSize\n}b", "sets the state of a Function"),
    "buffers elsewhere": (b"\x97", "uses NEXT_BUFFER"),
    "an odd function": (b"c" + b"x" * 10**5 + b"\ny\n", r"asks for x{80}\.y, which"),
}


@pytest.mark.parametrize("container", ["pickle", "zip"])
@pytest.mark.parametrize("name", COSTLY)
def test_costly_pickles_are_refused(tmp_path, name, container):
    opcodes, message = COSTLY[name]
    path = tmp_path / "model_final.pkl"
    if container == "zip":
        save_zip(path, {"a": opcodes}, {})
    else:
        path.write_bytes(b"\x80\x04}" + data("a") + opcodes + b"s.")

    with pytest.raises(ValueError, match=rf"model_final\.pkl .*{message}") as error:
        open_tensors(path)
    assert len(str(error.value)) < 600


def test_a_pickle_has_so_many_operations(tmp_path, monkeypatch):
    path = tmp_path / "model_final.pkl"
    opcodes = pickle.dumps({"a": np.ones(3)}, 4)
    path.write_bytes(opcodes[:-1] + b"0" + opcodes[:-1] + b".")
    assert open_tensors(path).keys() == {"a"}
    monkeypatch.setattr(pickle_machine, "OPERATIONS", 40)
    with pytest.raises(ValueError, match=r"model_final\.pkl takes more than 40 steps to read"):
        open_tensors(path)


def test_the_operations_of_pickles_in_a_pickle_count(tmp_path, monkeypatch):
    system = b"\x80\x02}" + data("little_endian") + b"\x88s." + b"\x80\x02" + b"N0" * 200 + b"N."
    storage = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03." + system
    argument = data("before") + b"0B" + struct.pack("<I", len(storage)) + storage + b"\x85"
    path = tmp_path / "model_final.pkl"
    path.write_bytes(
        b"\x80\x03"
        + data("x" * 64)
        + called("torch.storage", "_load_from_bytes", argument, 1)
        + b"."
    )
    with pytest.raises(ValueError, match="damaged"):
        open_tensors(path)
    monkeypatch.setattr(pickle_machine, "OPERATIONS", 300)
    with pytest.raises(ValueError, match="takes more than 300 steps"):
        open_tensors(path)


@pytest.mark.parametrize("name", ["16 GB of bytes", "a frame of 2^62", "a number of 2 GB"])
def test_what_a_pickle_only_says_is_not_allocated(tmp_path, name):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(b"\x80\x04}" + data("a") + COSTLY[name][0] + b"s.")
    assert peak_of_refusal(path, "bytes are said to follow") < 1 << 20


@pytest.mark.parametrize("shape", [(10**9, 4), (3, 10**6, 4), (2**62, 2**62, 4)])
def test_tensors_that_repeat_a_row_without_end(tmp_path, shape):
    strides = (*(0 for _ in shape[:-1]), 1)
    path = tmp_path / "model_final.pth"
    save_zip(path, {"small": view("0", FLOAT, 12, 0, (12,), (1,)),
                    "wide": view("0", FLOAT, 12, 0, shape, strides)}, {"0": TWELVE})  # fmt: skip
    with pytest.raises(ValueError, match=r"model_final\.pth holds \d+ bytes.* such as wide \[\d+,"):
        open_tensors(path)


def test_tied_tensors_share_their_numbers(tmp_path):
    path = tmp_path / "model_final.pth"
    storage = np.arange(1 << 20, dtype=np.float32)
    whole = view("0", FLOAT, storage.size, 0, storage.shape, (1,))
    save_zip(path, {str(i): whole for i in range(6)}, {"0": storage})
    check(open_tensors(path), dict.fromkeys("012345", storage))
    save_zip(path, {str(i): whole for i in range(16)}, {"0": storage})
    with pytest.raises(ValueError, match=r"model_final\.pth holds \d+ bytes, of which"):
        open_tensors(path)


def change_entry(path, name, offset, value):
    """Changes a byte of an entry's line in a zip file's directory."""
    content = bytearray(path.read_bytes())
    start = content.index(b"PK\x01\x02")
    while content[start + 46 : start + 46 + len(name)] != name.encode():
        start = content.index(b"PK\x01\x02", start + 1)
    content[start + offset] = value
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["data.pkl", "byteorder", "data/0"])
@pytest.mark.parametrize(("offset", "value"), [(8, 1), (10, 99), (10, 8)])
def test_entries_that_pytorch_does_not_write(tmp_path, name, offset, value):
    """Encrypted, of an unknown method, deflated: whose bytes aren't numbers as they lie there."""
    path = tmp_path / "model_final.pth"
    save_zip(path, {"a": view("0", FLOAT, 12, 0, (12,), (1,))}, {"0": TWELVE})
    change_entry(path, f"archive/{name}", offset, value)
    with pytest.raises(ValueError, match=rf"model_final\.pth has archive/{name} compressed or enc"):
        open_tensors(path)


def test_bombs_in_zip_files_are_not_unpacked(tmp_path):
    path = tmp_path / "model_final.pth"
    for name in ("data.pkl", "byteorder"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"archive/{name}", bytes(1 << 26))
            if name == "byteorder":
                archive.writestr("archive/data.pkl", b"\x80\x02}.", zipfile.ZIP_STORED)
        assert peak_of_refusal(path, f"has archive/{name} compressed") < 1 << 20


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_entries_of_one_name(tmp_path):
    path = tmp_path / "model_final.pth"
    save_zip(path, {"a": view("0", FLOAT, 12, 0, (12,), (1,))}, {"0": TWELVE})
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/data/0", bytes(48))
    with pytest.raises(ValueError, match=r"has two entries called archive/data/0"):
        open_tensors(path)


def test_checksums_of_zip_files(tmp_path):
    path = tmp_path / "model_final.pth"
    save_zip(path, {"a": view("0", FLOAT, 12, 0, (12,), (1,))}, {"0": TWELVE})
    content = path.read_bytes()
    place = content.index(TWELVE.tobytes())
    path.write_bytes(content[: place + 5] + b"\x55" + content[place + 6 :])
    with pytest.raises(ValueError, match=r"model_final\.pth .*a has a wrong checksum"):
        open_tensors(path)["a"].read()
    for i in range(4):  # PyTorch can be told to write none
        change_entry(path, "archive/data/0", 16 + i, 0)
    assert open_tensors(path)["a"].read()[1] != TWELVE[1]


def write_header(path, header, length=None):
    """A safetensors file of any header, with 48 bytes of numbers."""
    path.write_bytes(struct.pack("<Q", length or len(header)) + header + TWELVE.tobytes())


@pytest.mark.parametrize(
    ("header", "length"),
    [
        (b'{"a":1}', 2**63),
        (b'{"a":1}', 2**31),
        (b'{"a":' * 10**5, None),
        (b'{"a":{"dtype":"F32","shape":[12],"data_offsets":[0,2000000000000]}}', None),
        (b'{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,48]}}', None),
        (b'{"a":{"dtype":"F32","shape":[-12],"data_offsets":[0,48]}}', None),
        (
            b'{"a":{"dtype":"F32","shape":[12],"data_offsets":[0,48]},'
            b'"b":{"dtype":"F32","shape":[6],"data_offsets":[24,48]}}',
            None,
        ),
        (
            b'{"a":{"dtype":"F32","shape":[6],"data_offsets":[0,24]},'
            b'"a":{"dtype":"F32","shape":[6],"data_offsets":[24,48]}}',
            None,
        ),
    ],
)
def test_headers_of_safetensors_that_lie(tmp_path, header, length):
    path = tmp_path / "model.safetensors"
    write_header(path, header, length)
    with pytest.raises(ValueError, match=r"model\.safetensors .*download it again"):
        open_tensors(path)


@pytest.mark.parametrize("shard", [None, 3, [], {}, "..", ".", "/etc/passwd", "a/../a.safetensors"])
def test_shards_that_are_no_names(tmp_path, shard):
    index, weight_map = save_shards(tmp_path)
    index.write_text(json.dumps({"weight_map": weight_map | {"more": shard}}))
    with pytest.raises(ValueError, match=r"index\.json (lists|has .* as weight_map\.more)"):
        open_tensors(index)


def test_what_is_no_file_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "model.pkl")
    with pytest.raises(ValueError, match=r"model\.pkl is no file"):
        open_tensors(tmp_path / "model.pkl")
