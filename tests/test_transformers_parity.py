"""Every stage equals that of transformers, whose tiny random model reaches us through its files."""

import functools

import jax
import numpy as np
import pytest

from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.structures import FeaturePyramid
from tests.conftest import close
from tests.theirs import channels_last, random_model, small_swin

pytestmark = [pytest.mark.torch, pytest.mark.optimized]

BACKBONE, PIXEL_DECODER, LOGITS = 2e-5, 5e-5, 2e-4


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    from transformers import Mask2FormerConfig, Mask2FormerForUniversalSegmentation

    config = Mask2FormerConfig(
        backbone_config=small_swin(),
        feature_size=32,
        mask_feature_size=24,
        hidden_dim=32,
        encoder_feedforward_dim=16,
        encoder_layers=1,
        decoder_layers=4,
        dim_feedforward=16,
        num_attention_heads=2,
        num_queries=6,
        num_labels=3,
        output_auxiliary_logits=True,
    )
    theirs = random_model(Mask2FormerForUniversalSegmentation, config)
    folder = tmp_path_factory.mktemp("checkpoint")
    theirs.save_pretrained(folder)
    return theirs, Mask2Former.from_pretrained(folder)


@pytest.fixture(scope="module", params=[(64, 96), (97, 131)], ids=str)
def outputs(request, models):
    """The input, and what each stage of theirs made of it."""
    import torch

    x = np.random.default_rng(0).normal(size=(2, 3, *request.param)).astype(np.float32)
    with torch.no_grad():
        return channels_last(x), models[0](torch.from_numpy(x), output_hidden_states=True)


def test_backbone(models, outputs, run):
    pixel_values, theirs = outputs
    features = run(models[1].backbone, pixel_values)
    for x, y in zip(features, theirs.encoder_hidden_states, strict=True):
        close(x, channels_last(y), BACKBONE)


def their_pyramid(theirs):
    features = tuple(map(channels_last, theirs.pixel_decoder_hidden_states))
    return FeaturePyramid(features, channels_last(theirs.pixel_decoder_last_hidden_state))


def test_pixel_decoder(models, outputs, run):
    _, theirs = outputs
    pyramid = run(models[1].pixel_decoder, tuple(map(channels_last, theirs.encoder_hidden_states)))
    for x, y in zip(jax.tree.leaves(pyramid), jax.tree.leaves(their_pyramid(theirs)), strict=True):
        close(x, y, PIXEL_DECODER)


def test_class_and_mask_logits_of_every_layer(models, outputs, run):
    _, theirs = outputs
    decoder = functools.partial(models[1].decoder, all_layers=True)
    every_layer = run(decoder, their_pyramid(theirs))
    assert len(every_layer) == 4
    last = {
        "class_queries_logits": theirs.class_queries_logits,
        "masks_queries_logits": theirs.masks_queries_logits,
    }
    for ours, layer in zip(every_layer, [*theirs.auxiliary_logits, last], strict=True):
        close(ours.class_logits, np.asarray(layer["class_queries_logits"]), LOGITS)
        close(ours.mask_logits, np.asarray(layer["masks_queries_logits"]), LOGITS)
    masks = np.stack([x.mask_logits for x in every_layer])
    assert 0.1 < (masks > 0).mean() < 0.9


@pytest.mark.parametrize("outputs", [(97, 131)], indirect=True)
def test_all_stages(models, outputs):
    pixel_values, theirs = outputs
    ours = models[1](pixel_values)
    close(ours.class_logits, np.asarray(theirs.class_queries_logits), LOGITS)
    close(ours.mask_logits, np.asarray(theirs.masks_queries_logits), LOGITS)
