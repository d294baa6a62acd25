"""Checkpoint files: what is read equals what was stored, and nothing in a file is ever run."""

import builtins
import collections
import copyreg
import errno
import json
import os
import pickle
import struct
import tracemalloc
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from m2f_jax.convert.files import pickle_machine
from m2f_jax.convert.files.formats import StoredTensor, open_tensors, write_safetensors

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


# --- safetensors ---------------------------------------------------------------------------------


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


def save_shards(folder):
    names = list(FLOATS)
    for shard, part in (("a.safetensors", names[:2]), ("b.safetensors", names[2:])):
        safetensors.numpy.save_file({name: FLOATS[name] for name in part}, folder / shard)
    weight_map = dict.fromkeys(names[:2], "a.safetensors") | dict.fromkeys(
        names[2:], "b.safetensors"
    )
    return folder / "model.safetensors.index.json", weight_map


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


# --- pickles by detectron2 -----------------------------------------------------------------------


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


# --- PyTorch's zip files -------------------------------------------------------------------------


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


def test_torch_zip_without_torch(tmp_path):
    path = tmp_path / "model_final.pth"
    brain = np.arange(4).astype(ml_dtypes.bfloat16)
    whole = view("0", FLOAT, 12, 0, (3, 4), (4, 1))
    tensors = {
        "whole": whole,
        "tied": whole,
        "turned": view("0", FLOAT, 12, 0, (4, 3), (1, 4)),
        "part": view("0", FLOAT, 12, 5, (2, 2), (4, 2)),
        "repeated": view("0", FLOAT, 12, 7, (2, 3), (0, 1)),
        "scalar": view("0", FLOAT, 12, 11, (), ()),
        "empty": view("0", FLOAT, 12, 12, (0, 3), (3, 1)),
        "brain": view("1", b"ctorch\nBFloat16Storage\n", 4, 1, (3,), (1,)),
        "parameter": b"ctorch._utils\n_rebuild_parameter\n(" + whole + b"\x88}tR",
        "array": data(TWELVE),
    }
    save_zip(path, tensors, {"0": TWELVE, "1": brain})
    square = TWELVE.reshape(3, 4)
    want = {
        "whole": square,
        "tied": square,
        "turned": square.T,
        "part": square[1:, 1::2],
        "repeated": np.stack([TWELVE[7:10]] * 2),
        "scalar": TWELVE[11],
        "empty": np.zeros((0, 3), np.float32),
        "brain": brain[1:],
        "parameter": square,
        "array": TWELVE,
    }
    check(open_tensors(path), {name: np.asarray(array) for name, array in want.items()})


@pytest.mark.parametrize(
    "tensor",
    [
        view("0", FLOAT, 12, 0, (4, 4), (4, 1)),
        view("0", FLOAT, 12, 12, (1,), (1,)),
        view("0", FLOAT, 12, -1, (1,), (1,)),
        view("0", FLOAT, 12, 11, (2,), (-1,)),
        view("0", FLOAT, 12, 0, (2, 2), (1,)),
        view("0", FLOAT, 12, 0, ("2",), (1,)),
        view("0", FLOAT, 13, 0, (13,), (1,)),
        view("1", FLOAT, 12, 0, (12,), (1,)),
    ],
)
def test_torch_views_stay_inside_their_storage(tmp_path, tensor):
    path = tmp_path / "model_final.pth"
    save_zip(path, {"a": tensor}, {"0": TWELVE})
    with pytest.raises(ValueError, match=r"model_final\.pth is a zip file that is incomplete or"):
        open_tensors(path)


def test_torch_views_are_read_without_the_rest_of_their_storage(tmp_path):
    path = tmp_path / "model_final.pth"
    storage = np.arange(1 << 21, dtype=np.float32)
    save_zip(path, {"a": view("0", FLOAT, 1 << 21, 9, (2,), (3,))}, {"0": storage}, byteorder=None)
    tensors, opened = peak(lambda: open_tensors(path))
    array, read = peak(tensors["a"].read)
    assert max(opened, read) < 1 << 20
    np.testing.assert_array_equal(array, [9, 12])


def test_torch_zips_that_cannot_be_read(tmp_path):
    path = tmp_path / "model_final.pth"
    save_zip(path, {}, {}, byteorder=b"big")
    with pytest.raises(ValueError, match="big-endian"):
        open_tensors(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "hello")
    with pytest.raises(ValueError, match=r"no data\.pkl"):
        open_tensors(path)


@pytest.mark.torch
def test_torch_saves(tmp_path):
    torch = pytest.importorskip("torch", reason="compares with files that PyTorch writes")
    path = tmp_path / "model_final.pth"
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 2), torch.nn.BatchNorm2d(4))
    square = torch.arange(12.0).reshape(3, 4)
    weights = model.state_dict()  # an ordered dict with _metadata
    weights |= {
        "square": square,
        "turned": square.t(),
        "part": square[1:, ::2],
        "repeated": square[:1].expand(5, 4),
        "parameter": torch.nn.Parameter(square.clone()),
        "half": square.half(),
        "index": torch.arange(3),
        "flag": square > 3,
        "scalar": torch.tensor(3, dtype=torch.int32),
        "empty": torch.empty(0, 3, dtype=torch.float64),
    }
    want = {name: tensor.detach().numpy() for name, tensor in weights.items()}
    weights["brain"] = square.bfloat16()
    want["brain"] = square.numpy().astype(ml_dtypes.bfloat16)

    torch.save(weights, path)
    check(open_tensors(path), want)

    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 4, 4)).sum().backward()
    optimizer.step()
    state = {
        "model": weights,
        "optimizer": optimizer.state_dict(),
        "scheduler": torch.optim.lr_scheduler.MultiStepLR(optimizer, [3, 5]).state_dict(),
        "iteration": 3,
        "size": square.shape,
        "storage": torch.arange(3.0).untyped_storage(),
    }
    torch.save(state, path)
    check(open_tensors(path), want)
    torch.save({"state_dict": weights}, path)
    check(open_tensors(path), want)

    torch.save(model, path)  # the module itself, which is code
    with pytest.raises(ValueError, match=r"asks for torch\.nn\.modules\.container\.Sequential"):
        open_tensors(path)
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "third_party"}))
    check(open_tensors(path), want)  # as detectron2's converters of backbones write
    torch.save(weights, path, _use_new_zipfile_serialization=False)
    with pytest.raises(ValueError, match=r"PyTorch wrote before 1\.6"):
        open_tensors(path)


# --- hostile files -------------------------------------------------------------------------------


class Call:
    """Is pickled as a call of a function, which is then made by whoever unpickles it."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def hostile_contents(proof):
    """Pickle opcodes that would leave a file behind, were they run; and what is said of them."""
    system, touch = f"{os.system.__module__}.system", f"touch {proof}"
    create = f"open({str(proof)!r}, 'w')"
    return {
        system: data(Call(os.system, touch)),
        "builtins.eval|__builtin__.eval": data(Call(builtins.eval, create)),
        "builtins.getattr|__builtin__.getattr": data(Call(getattr, Call(dict), "keys")),
        "numpy.load": b"cnumpy\nload\n" + data((str(proof),)) + b"R",
        "numpy.f2py.*": b"cnumpy.f2py.crackfortran\nmyeval\n" + data((create,)) + b"R",
        "torch.storage._load_from_bytes": b"ctorch.storage\n_load_from_bytes\n(tR",
        "as 'rot13'": b"c_codecs\nencode\n" + data(("nopq", "rot13")) + b"R",
        "array of O": data(np.array([None], dtype=object)),
        "array of U4": data(np.array(["text"])),
        "sets the state of a Function": b"c_codecs\nencode\nN"
        + data({"__defaults__": (1,)})
        + b"\x86b",
        "uses EXT1": b"\x82\xf1",
        "is list and no tensor": data([]) + b"r\xff\xff\xff\xff",  # a memo of 2**32 entries
        "refers to 'elsewhere'": data("elsewhere") + b"Q",
        "is int and no tensor": data(3),
    }


HOSTILE = list(hostile_contents("proof"))


@pytest.mark.parametrize("message", HOSTILE)
@pytest.mark.parametrize("container", ["pickle", "zip"])
def test_nothing_in_a_file_is_run(tmp_path, container, message):
    proof, path = tmp_path / "proof", tmp_path / "model_final.pkl"
    opcodes = hostile_contents(proof)[message]
    if container == "zip":
        save_zip(path, {"a": opcodes}, {})
    else:
        path.write_bytes(b"\x80\x02}" + data("model") + b"}" + data("a") + opcodes + b"ss.")
    with pytest.raises(ValueError, match=rf"model_final\.pkl .*({message})"):
        open_tensors(path)
    assert not proof.exists()


def test_the_hostile_files_would_work_elsewhere(tmp_path):
    proof = tmp_path / "proof"
    pickle.loads(b"\x80\x02" + hostile_contents(proof)[HOSTILE[0]] + b".")
    assert proof.exists()


def test_extension_codes_are_refused_even_where_they_are_known(tmp_path):
    path = tmp_path / "model_final.pkl"
    path.write_bytes(b"\x80\x02\x82\xf0" + data(("x",)) + b"R.")
    copyreg.add_extension("builtins", "print", 0xF0)
    try:
        assert pickle.loads(b"\x80\x02\x82\xf0.") is print  # and is remembered
        with pytest.raises(ValueError, match="uses EXT1"):
            open_tensors(path)
    finally:
        copyreg.remove_extension("builtins", "print", 0xF0)


# --- files that would cost more than their size accounts for ---


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


# --- damaged files and other files ---------------------------------------------------------------


def save_each(folder):
    safetensors.numpy.save_file(NUMBERS, folder / "model.safetensors")
    (folder / "model_final.pkl").write_bytes(pickle.dumps({"model": NUMBERS}, 4))
    save_zip(folder / "model_final.pth", {"a": view("0", FLOAT, 12, 0, (12,), (1,))}, {"0": TWELVE})
    index, weight_map = save_shards(folder)
    index.write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("part", [0, 1, 5, 0.3, 0.6, 0.99])
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "model_final.pkl", "model_final.pth", "model.safetensors.index.json"],
)
def test_truncated_files(tmp_path, name, part):
    save_each(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[: part if part >= 1 else int(part * len(whole))])
    with pytest.raises(ValueError, match=rf"{name} .*download it again"):
        open_tensors(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model_final.pkl", "model_final.pth"])
def test_flipped_bytes_raise_nothing_but_value_errors(tmp_path, name):
    save_each(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(len(whole), size=200):
        path.write_bytes(whole[:place] + rng.bytes(1) + whole[place + 1 :])
        try:
            for tensor in open_tensors(path).values():
                tensor.read()
        except ValueError as error:
            assert name in str(error)  # noqa: PT017, no error is right too: data may be flipped


def test_files_cut_short_after_they_were_opened(tmp_path):
    save_each(tmp_path)
    for name in ("model.safetensors", "model_final.pth"):
        path = tmp_path / name
        *_, last = open_tensors(path).values()
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(ValueError, match=f"{name} is a .* that is incomplete or damaged"):
            last.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b'{"error": "Repository not found"}', "has no weight_map"),
        (b"[1, 2]", "unlike any checkpoint"),
        (b"\x89HDF\r\n\x1a\n", "unlike any checkpoint"),
        (b"cos\nsystem\n(S'true'\ntR.", "unlike any checkpoint"),
        (b"", "is empty"),
        (b"\0" * 64, "unlike any checkpoint"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2), "PyTorch wrote before"),
        (pickle.dumps([1, 2]), "holds a list, not a dict of tensors"),
        (pickle.dumps({1: np.ones(2)}), "by something other than strings"),
        (pickle.dumps({"epoch": 3}), "'epoch', which is int and no tensor"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pkl", ".pth"])
def test_other_files_under_the_name_of_a_checkpoint(tmp_path, content, message, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\{suffix}.*{message}"):
        open_tensors(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.pkl does not exist; give the path"):
        open_tensors(tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="is a folder; give the checkpoint file in it"):
        open_tensors(tmp_path)
