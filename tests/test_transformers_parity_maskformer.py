"""A MaskFormer equals that of transformers: read from its files, and written to them.

Only what is right there: its auxiliary predictions lack the norm before the heads.
"""

import numpy as np
import pytest
from m2f_jax.convert import convert

from m2f_jax import MaskFormer
from tests.conftest import close
from tests.theirs import channels_last, random_model, small_swin

pytestmark = [pytest.mark.torch, pytest.mark.optimized]

BACKBONE, PIXEL_DECODER, LOGITS = 2e-5, 5e-5, 2e-4


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A random model of theirs, and its folder."""
    from transformers import (
        DetrConfig,
        MaskFormerConfig,
        MaskFormerForInstanceSegmentation,
    )

    decoder = DetrConfig(
        d_model=24,
        decoder_layers=2,
        decoder_attention_heads=2,
        decoder_ffn_dim=16,
        num_queries=6,
        dropout=0.2,
    )
    config = MaskFormerConfig(
        backbone_config=small_swin(),
        decoder_config=decoder,
        fpn_feature_size=32,
        mask_feature_size=20,
        num_labels=3,
    )
    theirs = random_model(MaskFormerForInstanceSegmentation, config)
    folder = tmp_path_factory.mktemp("theirs")
    theirs.save_pretrained(folder)
    return theirs, folder


def test_every_stage(saved, run):
    import torch

    theirs, folder = saved
    ours = MaskFormer.from_pretrained(folder)
    assert ours.config.decoder.dropout == 0.2
    x = np.random.default_rng(0).normal(size=(1, 3, 97, 131)).astype(np.float32)

    def stages(model, images):
        features = model.backbone(images)
        pyramid = model.pixel_decoder(features)
        return features, pyramid, model.decoder(pyramid)

    features, pyramid, predictions = run(stages, ours, channels_last(x))
    with torch.no_grad():
        outputs = theirs(torch.from_numpy(x), output_hidden_states=True)
    for one, other in zip(features, outputs.encoder_hidden_states, strict=True):
        close(one, channels_last(other), BACKBONE)
    close(pyramid.per_pixel, channels_last(outputs.pixel_decoder_last_hidden_state), PIXEL_DECODER)
    close(predictions.class_logits, np.asarray(outputs.class_queries_logits), LOGITS)
    close(predictions.mask_logits, np.asarray(outputs.masks_queries_logits), LOGITS)
    assert 0.1 < (np.asarray(predictions.mask_logits) > 0).mean() < 0.9


def test_transformers_loads_what_is_written(saved, tmp_path):
    from transformers import MaskFormerForInstanceSegmentation, MaskFormerImageProcessor

    theirs, folder = saved
    convert(folder, tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", "huggingface")
    back, said = MaskFormerForInstanceSegmentation.from_pretrained(
        tmp_path / "back", output_loading_info=True
    )
    missing = said.pop("missing_keys")
    assert all("relative_position_index" in name for name in missing)  # it computes these
    assert not any(said.values())
    assert back.config.decoder_config.dropout == 0.2
    state = back.state_dict()
    for name, tensor in theirs.state_dict().items():
        if "encoder.model.layernorm" not in name:  # its result is never read
            np.testing.assert_array_equal(state[name], tensor, err_msg=name)
    processor = MaskFormerImageProcessor.from_pretrained(tmp_path / "back")
    assert processor.size_divisor == 32
