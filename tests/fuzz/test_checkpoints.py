"""Checkpoints: safetensors, pickles, PyTorch's zip files, configurations and exported models."""

import functools
import io
import json
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
import onnx
import safetensors.numpy
from hypothesis import strategies as st
from m2f_jax.convert.files.formats import open_tensors
from m2f_jax.convert.tables.huggingface.config import (
    class_names,
    config_from_huggingface,
    processor_from_huggingface,
)

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.inference.export.exported_file import Header, digest_of, read_exported
from m2f_jax.inference.export.onnx.running import FORMAT, KEY, read_header
from m2f_jax.inference.export.writing import write
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import numbered
from m2f_jax.labels.choosing import read_labels
from tests.conftest import GOLDEN, MICRO
from tests.fuzz.targets import fuzz, refused_by_name
from tests.fuzz.test_coco import spoilt

ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.ones(2, np.float16)}
MOST_BYTES = 2**26  # of a tensor that a small file may hold


def changed(data: bytes, draw) -> bytes:
    """Bytes of which some are others, are missing or are there twice."""
    content = bytearray(data)
    for _ in range(draw(st.integers(0, 5))):
        place = draw(st.integers(0, len(content) - 1))
        content[place] = draw(st.one_of(st.integers(0, 255), st.sampled_from([0, 127, 128, 255])))
    start, end = sorted(draw(st.integers(0, len(content))) for _ in range(2))
    if draw(st.integers(0, 3)) == 0:
        content[start:start] = content[start:end]
    return bytes(content[: draw(st.one_of(st.just(len(content)), st.integers(0, len(content))))])


@st.composite
def safetensors_files(draw) -> bytes:
    """What the library writes, changed; or a header of any claims."""
    if draw(st.booleans()):
        return changed(safetensors.numpy.save(ARRAYS), draw)
    number = st.one_of(st.integers(-1, 30), st.sampled_from([2**31, 2**32, 2**63, 2**64]))
    tensor = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "BF16", "I64", "BOOL", "F8_E5M2", "x", None]),
            "shape": st.lists(number, max_size=3),
            "data_offsets": st.lists(number, min_size=1, max_size=3),
        }
    )
    header = draw(st.dictionaries(st.text(max_size=3), st.one_of(tensor, st.none()), max_size=3))
    text = json.dumps(header).encode()
    length = draw(st.one_of(st.just(len(text)), st.integers(0, 2**64 - 1)))
    return struct.pack("<Q", length) + text + bytes(draw(st.integers(0, 60)))


OPCODES = [opcode.code.encode("latin1") for opcode in pickletools.opcodes]
GLOBALS = [
    *("torch\nFloatStorage\n", "torch\nSize\n", "torch._utils\n_rebuild_tensor_v2\n"),
    *("torch._utils\n_rebuild_parameter\n", "torch.storage\n_load_from_bytes\n"),
    *("numpy\ndtype\n", "numpy\nndarray\n", "numpy.core.multiarray\n_reconstruct\n"),
    *("numpy.core.multiarray\nscalar\n", "numpy._core.numeric\n_frombuffer\n"),
    *("_codecs\nencode\n", "__builtin__\nbytes\n", "collections\nOrderedDict\n", "os\nsystem\n"),
]


@st.composite
def pickles(draw) -> bytes:
    """A pickle of arrays, changed; or any operations that follow one another."""
    if draw(st.booleans()):
        protocol = draw(st.integers(2, 5))
        return changed(pickle.dumps({"model": ARRAYS, "best": np.float32(1)}, protocol), draw)
    values = st.one_of(
        st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=4),
        st.binary(max_size=20), st.floats(), st.sampled_from(["latin1", "f4", "storage", "cpu"]),
        st.lists(st.integers(0, 9), max_size=3), st.tuples(st.integers(0, 9)),
    )  # fmt: skip
    part = st.one_of(
        values.map(lambda value: pickle.dumps(value, 2)[2:-1]),
        st.sampled_from(OPCODES),
        st.sampled_from(GLOBALS).map(lambda name: b"c" + name.encode()),
        st.sampled_from(
            [b"h\x00", b"h\x01", b"q\x01", b"2\x86", b"R", b"b", b"u", b"s", b"e", b"Q"]
        ),
    )
    return b"\x80\x04" + b"".join(draw(st.lists(part, max_size=40))) + b"."


@st.composite
def torch_files(draw) -> bytes:
    """A zip file as PyTorch's, of any views, changed; or of any pickle."""
    sizes = st.one_of(st.integers(0, 12), st.sampled_from([2**31, 2**62, 2**70, -1]))

    def data(value) -> bytes:
        return pickle.dumps(value, 2)[2:-1]

    def view() -> bytes:
        shape, strides = (tuple(draw(st.lists(sizes, max_size=3))) for _ in range(2))
        storage = data("storage") + b"ctorch\nFloatStorage\n" + data(draw(st.sampled_from("01")))
        return (
            b"ctorch._utils\n_rebuild_tensor_v2\n((" + storage + data("cpu") + data(draw(sizes))
            + b"tQ" + data(draw(sizes)) + data(shape) + data(strides) + b"\x89NtR"
        )  # fmt: skip

    pickled = b"\x80\x02}" + b"".join(data(name) + view() + b"s" for name in "ab") + b"."
    file = io.BytesIO()
    method = draw(st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
    with zipfile.ZipFile(file, "w", method) as archive:
        archive.writestr("x/data.pkl", pickled if draw(st.booleans()) else draw(pickles()))
        archive.writestr("x/byteorder", draw(st.sampled_from([b"little", b"big", b""])))
        archive.writestr("x/data/0", np.arange(12, dtype=np.float32).tobytes())
    return changed(file.getvalue(), draw)


def read_all(path: Path):
    with refused_by_name(path):
        for tensor in open_tensors(path).values():
            assert tensor.read().nbytes <= MOST_BYTES


@fuzz(safetensors_files())
def test_safetensors(data: bytes, folder: Path):
    path = folder / "example.safetensors"
    path.write_bytes(data)
    read_all(path)


@fuzz(pickles())
def test_pickles(data: bytes, folder: Path):
    path = folder / "example.pkl"
    path.write_bytes(data)
    read_all(path)


@fuzz(torch_files())
def test_torch_files(data: bytes, folder: Path):
    path = folder / "example.pth"
    path.write_bytes(data)
    read_all(path)


JSON = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
        st.sampled_from([0, -1, 1, 2, 4, 2**31, 10**30, "swin", "1", "deformable"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)  # fmt: skip


@st.composite
def changed_json(draw, values) -> object:
    """A JSON value of which some parts are others."""
    whole = {"": json.loads(json.dumps(values))}
    for _ in range(draw(st.integers(1, 3))):
        place, key = whole, ""
        while isinstance(place[key], dict | list) and place[key] and draw(st.integers(0, 4)):
            place = place[key]
            key = draw(
                st.sampled_from(sorted(place))
                if isinstance(place, dict)
                else st.integers(0, len(place) - 1)
            )
        place[key] = draw(JSON)
    return whole[""]


def golden_json(name: str) -> dict:
    return json.loads((GOLDEN / name / "hf" / "config.json").read_text())


PROCESSOR = {
    "size": {"shortest_edge": 32, "longest_edge": 64},
    "size_divisor": 32,
    "do_resize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.2, 0.2, 0.2],
    "rescale_factor": 1 / 255,
}


@fuzz(st.sampled_from(["tiny_w4_aligned", "r50_tiny"]).map(golden_json).flatmap(changed_json))
def test_hugging_faces_configs(values: object, folder: Path):
    path = folder / "config.json"
    with refused_by_name(path):
        if isinstance(values, dict):
            labels = numbered(len(class_names(values, str(path))))
            config_from_huggingface(values, labels, "instance", str(path))


@fuzz(changed_json(PROCESSOR))
def test_hugging_faces_processors(values: object, folder: Path):
    path = folder / "preprocessor_config.json"
    with refused_by_name(path):
        if isinstance(values, dict):
            processor_from_huggingface(values, ImageProcessor(), str(path))


@fuzz(changed_json(MICRO.to_dict()))
def test_our_configs(values: object, folder: Path):
    path = folder / "config.json"
    path.write_text(json.dumps(values))
    with refused_by_name(path):
        config = Mask2FormerConfig.load(path)
        assert Mask2FormerConfig.from_dict(config.to_dict()) == config


@fuzz(changed_json({"categories": [{"id": 1, "name": "cat", "isthing": 1}, {"name": "sky"}]}))
def test_files_of_classes(values: object, folder: Path):
    path = folder / "classes.json"
    path.write_text(json.dumps(values))
    with refused_by_name(path):
        assert read_labels(path)


@functools.cache
def exported(folder: Path) -> tuple[bytes, bytes]:
    """Both files of an exported model whose program is none."""
    header = Header(
        task="semantic",
        labels=numbered(2),
        size=(32, 32),
        platforms=("cpu",),
        dtype="float32",
        jax_version=jax.__version__,
        digest=digest_of(b"program", ARRAYS),
    )
    path = folder / "sound.m2f"
    write(path, header, b"program", ARRAYS)
    return path.read_bytes(), Path(f"{path}.safetensors").read_bytes()


@st.composite
def two_changes(draw):
    """What becomes of each of two files."""
    first, second = draw(st.sampled_from([(True, False), (False, True), (True, True)]))
    numbers = draw(
        st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=5)
    )
    return first, second, numbers, draw(st.one_of(st.just(1.0), st.floats(0, 1)))


@fuzz(two_changes())
def test_exported_models(changes, folder: Path):
    files = []
    for content, is_changed in zip(exported(folder), changes[:2], strict=True):
        data = bytearray(content)
        if is_changed:
            for place, value in changes[2]:
                data[min(int(place * len(data)), len(data) - 1)] = value
            data = data[: int(changes[3] * len(data))]
        files.append(bytes(data))
    path = folder / "example.m2f"
    path.write_bytes(files[0])
    Path(f"{path}.safetensors").write_bytes(files[1])
    with refused_by_name(path):
        read_exported(path, jax.local_devices()[:1])


def onnx_file(header: Any, file: str = "x.onnx.data") -> bytes:
    """An ONNX file of one node, with a header for m2f predict, and with weights elsewhere."""
    tensor = onnx.helper.make_tensor_value_info
    outside = onnx.numpy_helper.from_array(np.zeros((4, 6), np.int32), "w")
    outside.ClearField("raw_data")
    outside.data_location = onnx.TensorProto.EXTERNAL
    outside.external_data.add(key="location", value=file)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["w"], ["class_map"])],
        "g",
        [tensor("image", onnx.TensorProto.UINT8, (4, 6, 3))],
        [tensor("class_map", onnx.TensorProto.INT32, (4, 6))],
        [outside],
    )
    model = onnx.helper.make_model(graph)
    onnx.helper.set_model_props(model, {KEY: json.dumps(header)})
    return model.SerializeToString()


ONNX_HEADER = {
    "format": FORMAT,
    "task": "semantic",
    "labels": [{"id": 1, "name": "road", "is_thing": False}],
    "size": [4, 6],
    "network_only": False,
    "dynamic_batch": False,
    "top_k": 100,
    "object_mask_threshold": 0.8,
    "overlap_threshold": 0.8,
    "mean": [0.5, 0.5, 0.5],
    "std": [0.5, 0.5, 0.5],
}


@st.composite
def onnx_files(draw) -> bytes:
    """What m2f export writes, changed as bytes or in its header."""
    if draw(st.booleans()):
        return changed(onnx_file(ONNX_HEADER), draw)
    return onnx_file(draw(spoilt(ONNX_HEADER)), draw(st.sampled_from(["x.onnx.data", "../y"])))


@fuzz(onnx_files())
def test_onnx_files(content, folder):
    path = folder / "x.onnx"
    path.write_bytes(content)
    path.with_name("x.onnx.data").touch()
    with refused_by_name(path):
        header = read_header(path)
        assert len(header.size) == 2
        assert header.labels
