"""What we write, transformers loads."""

import json

import numpy as np
import pytest
from m2f_jax.convert import convert, open_checkpoint
from m2f_jax.convert.tables.huggingface import config as huggingface_config

from m2f_jax.inference.processor import ImageProcessor
from tests.conftest import MICRO
from tests.convert.conftest import (
    PROCESSOR,
    WEIGHTS,
    check_equal,
    names_of,
    read,
    read_file,
    write_file,
)


@pytest.fixture
def transformers():
    return pytest.importorskip("transformers")


@pytest.mark.torch
def test_transformers_loads_what_we_write(golden, tmp_path, transformers):
    import torch

    convert(golden.folder / "model_final.pkl", tmp_path, "huggingface")
    model, info = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not any(info.values()), info
    with torch.no_grad():
        output = model(torch.tensor(golden.network["pixel_values"]))
    for array, name, tolerance in (
        (output.class_queries_logits, "class_logits", 3e-4),
        (output.masks_queries_logits, "mask_logits", 5e-4),
    ):
        np.testing.assert_allclose(array, golden.network[name][-1], rtol=0, atol=tolerance)


@pytest.mark.torch
@pytest.mark.parametrize("shortest", [None, 64])
@pytest.mark.parametrize("longest", [None, 80])
def test_transformers_loads_our_processors(tmp_path, transformers, shortest, longest):
    processor = ImageProcessor(shortest_edge=shortest, longest_edge=longest)
    values = huggingface_config.processor_to_huggingface(processor, MICRO)
    (tmp_path / PROCESSOR).write_text(json.dumps(values))
    theirs = transformers.Mask2FormerImageProcessorPil.from_pretrained(tmp_path)
    image = np.random.default_rng(0).integers(256, size=(40, 60, 3), dtype=np.uint8)
    array = theirs(image, return_tensors="np")["pixel_values"].transpose(0, 2, 3, 1)
    ours = processor(image).pixel_values
    if shortest is None:  # then it doesn't pad
        np.testing.assert_allclose(array, ours[:, :40, :60], atol=1e-5)
    else:
        assert array.shape == ours.shape


@pytest.mark.torch
def test_names_of_transformers(tmp_path, transformers):
    """Those that it writes and those that it has in memory, of as many classes as it assumes."""
    swin = transformers.SwinConfig(
        embed_dim=8, depths=[1, 2, 1, 1], num_heads=[1, 1, 2, 2], window_size=3,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=swin, feature_size=32, mask_feature_size=16, hidden_dim=32, num_queries=4,
        encoder_layers=2, decoder_layers=3, encoder_feedforward_dim=8, dim_feedforward=12,
    )  # fmt: skip
    model = transformers.Mask2FormerForUniversalSegmentation(config)
    model.save_pretrained(tmp_path)
    saved = open_checkpoint(tmp_path)
    assert names_of(saved.config.labels) == ["LABEL_0", "LABEL_1"]
    assert saved.config.decoder.num_layers == 2
    tensors = read(saved.tensors)
    names = read_file(tmp_path / WEIGHTS).keys()
    in_memory = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    assert in_memory.keys() != names
    write_file(tmp_path / WEIGHTS, in_memory)
    check_equal(read(open_checkpoint(tmp_path).tensors), tensors)
