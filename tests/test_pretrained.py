"""One reading of a checkpoint gives all that belongs to a model."""

import shutil

import numpy as np
import pytest
from m2f_jax.convert.files import formats

import m2f_jax
from m2f_jax import ImageProcessor, Mask2Former, Segmenter
from m2f_jax.modeling.parameters import parameters


def image():
    return np.random.default_rng(0).integers(0, 256, (40, 48, 3), np.uint8)


def check_same(one, other):
    one, other = parameters(one), parameters(other)
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value[...], other[name][...], strict=True, err_msg=name)


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny.folder / "hf", tmp_path / "hf")


def test_everything_is_of_one_reading(folder, monkeypatch):
    opened_files = []
    open_safetensors = formats._open_safetensors
    monkeypatch.setattr(
        formats,
        "_open_safetensors",
        lambda path: opened_files.append(path) or open_safetensors(path),
    )
    opened = m2f_jax.load(folder)
    assert opened.labels == opened.config.labels == opened.model.config.labels
    assert opened.model is opened.model
    assert opened.segmenter is opened.segmenter
    assert opened.segmenter.processor is opened.processor
    assert len(opened.segmenter(image(), top_k=3)) <= 3
    assert opened_files == [folder / "model.safetensors"]


def test_the_three_from_pretrained_are_the_same(folder):
    opened = m2f_jax.load(folder, "bfloat16")
    assert ImageProcessor.from_pretrained(folder) == opened.processor
    check_same(Mask2Former.from_pretrained(folder, "bfloat16"), opened.model)
    segmenter = Segmenter.from_pretrained(folder, "bfloat16", batch_size=2)
    assert segmenter.processor == opened.processor
    assert segmenter.dtype == opened.dtype == opened.segmenter.dtype == "bfloat16"
    assert segmenter.batch_size == 2
    assert m2f_jax.load(folder).dtype == Segmenter.from_pretrained(folder).dtype == "float32"


def test_a_processor_needs_no_parameters(folder, monkeypatch):
    monkeypatch.setattr("m2f_jax.pretrained.fill", None)
    assert ImageProcessor.from_pretrained(folder) == m2f_jax.load(folder).processor


@pytest.mark.parametrize("start", [m2f_jax.load, Mask2Former.from_pretrained])
def test_other_dtypes_are_refused(folder, start):
    with pytest.raises(ValueError, match="dtype is one of float32, bfloat16, not float16"):
        start(folder, "float16")


def test_what_is_missing_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none is missing"):
        m2f_jax.load(tmp_path / "none")
