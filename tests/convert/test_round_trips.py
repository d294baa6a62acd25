"""Every bit arrives, whatever the formats."""

import json
import re

import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from m2f_jax.convert import convert, open_checkpoint
from m2f_jax.convert.files.formats import StoredTensor
from m2f_jax.convert.tables import rules
from m2f_jax.convert.tables.backbones import swin

from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.parameters import parameter_shapes
from tests.conftest import MASKFORMERS, NAMES
from tests.convert.conftest import (
    CONFIG,
    WEIGHTS,
    at_hugging_face,
    check_equal,
    check_same_model,
    contents,
    read,
    read_file,
    write_file,
)

every_model = pytest.mark.parametrize("golden", [*NAMES, *MASKFORMERS], indirect=True)


@at_hugging_face
def test_both_formats_hold_the_same_tensors(golden):
    one = open_checkpoint(golden.folder / "hf")
    other = open_checkpoint(golden.folder / "model_final.pkl")
    check_equal(read(one.tensors), read(other.tensors))
    assert {name: x.shape for name, x in one.tensors.items()} == parameter_shapes(one.config)


@every_model
def test_from_the_authors_format_to_ours(golden, tmp_path):
    source = convert(golden.folder / "model_final.pkl", tmp_path)
    check_same_model(open_checkpoint(tmp_path), source)


def without_unread(tensors):
    """Without those that transformers stores and no one reads."""
    unread = re.compile(r".*(encoder\.(swin|model)\.layernorm\.\w+|\.relative_position_index)")
    return {name: array for name, array in tensors.items() if not unread.fullmatch(name)}


@at_hugging_face
def test_from_hugging_face_to_ours_and_back(golden, tmp_path):
    source = convert(golden.folder / "hf", tmp_path / "ours")
    ours = open_checkpoint(tmp_path / "ours")
    check_same_model(ours, source)

    convert(tmp_path / "ours", tmp_path / "hf", "huggingface")
    back = without_unread(read_file(tmp_path / "hf" / WEIGHTS))
    if golden.name == "maskformer_r50_fpn":  # written in the way of the files on the hub
        back = {name: array for name, array in back.items() if "num_batches" not in name}
    check_equal(back, without_unread(read_file(golden.folder / "hf" / WEIGHTS)))
    check_same_model(open_checkpoint(tmp_path / "hf"), ours)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_half_precision_stays_as_it_is(hugging_face, tmp_path, dtype):
    arrays = {
        name: array if "index" in name else array.astype(dtype)
        for name, array in read_file(hugging_face / WEIGHTS).items()
    }
    write_file(hugging_face / WEIGHTS, arrays)
    convert(hugging_face, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", "huggingface")
    back = read_file(tmp_path / "back" / WEIGHTS)
    back["criterion.empty_weight"] = back["criterion.empty_weight"].astype(dtype)
    check_equal(without_unread(back), without_unread(arrays))
    assert json.loads((tmp_path / "back" / CONFIG).read_text())["dtype"] == np.dtype(dtype).name


def test_tensors_that_are_joined_get_one_dtype():
    [rule] = [
        rule for rule in swin.HUGGING_FACE_RULES if rule.ours[0].endswith("attention.qkv.bias")
    ]
    dtypes = (np.float16, ml_dtypes.bfloat16, np.float16)
    theirs = {
        name: StoredTensor.of(np.full(2, i, dtype))
        for i, (name, dtype) in enumerate(zip(rule.theirs, dtypes, strict=True))
    }
    [joined] = rules.load(rule, theirs, {rule.ours[0]: (6,)}).values()
    assert joined.dtype == np.float32
    np.testing.assert_array_equal(joined.read(), np.float32([0, 0, 1, 1, 2, 2]), strict=True)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_save_pretrained(ours, tmp_path, dtype):
    folder = tmp_path / "saved"
    Mask2Former.from_pretrained(ours, dtype).save_pretrained(folder)
    before, after = open_checkpoint(ours), open_checkpoint(folder)
    assert (before.config, before.processor) == (after.config, after.processor)
    exact = ("sampling_offsets", "attention_weights")
    rounded = {
        name: array.astype(np.float32 if any(x in name for x in exact) else jnp.dtype(dtype))
        for name, array in read(before.tensors).items()
    }
    check_equal(read(after.tensors), rounded)

    Mask2Former.from_pretrained(folder, dtype).save_pretrained(tmp_path / "again")
    assert contents(tmp_path / "again") == contents(folder)

    convert(folder, tmp_path / "hf", "huggingface")
    assert json.loads((tmp_path / "hf" / CONFIG).read_text())["dtype"] == "float32"
    check_equal(read(open_checkpoint(tmp_path / "hf").tensors), rounded)


LAYOUTS = {  # the layout, and the shapes of their tensors for any three sizes
    "same": (rules.SAME, lambda a, b, c: [(a, b, c)]),
    "transposed": (rules.TRANSPOSED, lambda a, b, _: [(a, b)]),
    "convolution": (rules.CONVOLUTION, lambda a, b, c: [(a, b, c, c)]),
    "pointwise": (rules.POINTWISE, lambda a, b, _: [(a, b, 1, 1)]),
    "fused kernels": (rules.FUSED_KERNELS, lambda a, b, _: [(3 * a, b)]),
    "fused biases": (rules.FUSED_BIASES, lambda a, _b, _c: [(3 * a,)]),
    "apart kernels": (rules.APART_KERNELS, lambda a, b, _: [(a, b)] * 3),
    "apart biases": (rules.APART_BIASES, lambda a, _b, _c: [(a,)] * 3),
    "patches": (rules.patches(2), lambda a, b, _: [(a, b, 2, 2)]),
    "larger patches": (rules.patches(4), lambda a, b, _: [(a, b, 4, 4)]),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts_give_back_what_they_took(name):
    layout, shapes = LAYOUTS[name]
    rng = np.random.default_rng(0)
    for _ in range(20):
        sizes = shapes(*map(int, rng.integers(1, 7, size=3)))
        theirs = tuple(rng.normal(size=size).astype(np.float32) for size in sizes)
        ours = layout.load(theirs)
        back = layout.save(ours)
        for array, given in zip(back, theirs, strict=True):
            np.testing.assert_array_equal(array, given, strict=True)
        assert sum(x.size for x in ours) == sum(x.size for x in theirs)


def test_layouts_mean_what_torch_means():
    rng = np.random.default_rng(0)
    weight, image = rng.normal(size=(5, 3, 2, 2)), rng.normal(size=(3, 4, 6))
    patches = np.stack([image[:, i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2, 4)])
    want = np.einsum("pchw,ochw->po", patches, weight)
    [kernel] = rules.patches(2).load((weight,))
    np.testing.assert_allclose(patches.transpose(0, 2, 3, 1).reshape(6, -1) @ kernel, want)
    [kernel] = rules.CONVOLUTION.load((weight,))
    np.testing.assert_allclose(np.einsum("pchw,hwco->po", patches, kernel), want)

    tokens, fused = rng.normal(size=(7, 4)), rng.normal(size=(3 * 4, 4))
    for kernel, want in zip(
        rules.FUSED_KERNELS.load((fused,)), np.split(tokens @ fused.T, 3, axis=1), strict=True
    ):
        np.testing.assert_allclose(tokens @ kernel, want)
