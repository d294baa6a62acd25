"""Converting leaves no mess."""

import dataclasses
import errno
import inspect

import pytest
from m2f_jax.convert import convert, open_checkpoint, save_checkpoint
from m2f_jax.convert.tables.huggingface import config as huggingface_config

from m2f_jax.config import FPNPixelDecoderConfig, TransformerDecoderConfig
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.presets import preset
from tests.convert.conftest import (
    CONFIG,
    PROCESSOR,
    WEIGHTS,
    check_equal,
    check_same_model,
    contents,
    read,
)


def test_nothing_is_overwritten_by_accident(authors, ours, tmp_path):
    before = contents(ours)
    with pytest.raises(FileExistsError, match=rf"{ours} holds a model already"):
        convert(authors, ours)
    assert contents(ours) == before
    part = tmp_path / "part"
    part.mkdir()
    (part / WEIGHTS).write_bytes(b"precious")
    with pytest.raises(FileExistsError, match=rf"already \({WEIGHTS}\)"):
        convert(authors, part, "huggingface")
    assert contents(part) == {WEIGHTS: b"precious"}


def test_overwriting_on_purpose(ours, other):
    assert set(contents(ours)) == {CONFIG, WEIGHTS, PROCESSOR}
    ImageProcessor(shortest_edge=64).save_pretrained(ours)
    convert(other, ours, overwrite=True)
    check_same_model(open_checkpoint(ours), open_checkpoint(other))
    assert set(contents(ours)) == {CONFIG, WEIGHTS, PROCESSOR}


def test_converting_a_folder_in_place(hugging_face):
    before = open_checkpoint(hugging_face)
    tensors = read(before.tensors)
    convert(hugging_face, hugging_face, overwrite=True)
    after = open_checkpoint(hugging_face)
    assert after.config == before.config
    check_equal(read(after.tensors), tensors)


def test_a_damaged_source_leaves_the_target_alone(hugging_face, ours):
    before = contents(ours)
    weights = hugging_face / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"hf/model.safetensors is .*damaged"):
        convert(hugging_face, ours, overwrite=True)
    assert contents(ours) == before


@pytest.mark.parametrize("to", ["m2f_jax", "huggingface"])
def test_failing_half_way_leaves_the_target_alone(ours, other, monkeypatch, to):
    def fail(*_, **__):
        raise OSError(errno.ENOSPC, "disk full")

    before = contents(ours)
    name = "m2f_jax.inference.processor.ImageProcessor.save_pretrained"
    monkeypatch.setattr(name if to == "m2f_jax" else "pathlib.Path.write_text", fail)
    with pytest.raises(OSError, match="disk full"):
        convert(other, ours, to, overwrite=True)
    assert contents(ours) == before

    checkpoint = open_checkpoint(ours)
    checkpoint.tensors["decoder.queries"] = dataclasses.replace(
        checkpoint.tensors["decoder.queries"], read=fail
    )
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(checkpoint, ours)
    assert contents(ours) == before


def test_unknown_formats(authors, tmp_path):
    with pytest.raises(ValueError, match=r"to is one of \('m2f_jax', 'huggingface'\), not 'onnx'"):
        inspect.unwrap(convert)(authors, tmp_path / "new", "onnx")  # without type checks
    assert not (tmp_path / "new").exists()


def test_architectures_that_transformers_lacks(authors, tmp_path):
    with pytest.raises(ValueError, match="always 4 points; this model has 4 and 4 heads and 8"):
        convert(authors, tmp_path / "new", "huggingface", num_heads=4)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("pixel_decoder", FPNPixelDecoderConfig(), "pixel_decoder is of the type 'fpn'"),
        ("decoder", TransformerDecoderConfig(masked=False), "decoder.masked false"),
    ],
)
def test_ablations_that_transformers_lacks(field, change, message):
    config = dataclasses.replace(preset("swin-tiny-coco-instance").config, **{field: change})
    with pytest.raises(ValueError, match=message):
        huggingface_config.config_to_huggingface(config)
