"""Video Mask2Former computes what the authors' PyTorch code computes, stage by stage and whole."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.modeling.transformer_decoders.masked_attention import key_positions
from m2f_jax.structures import Predictions
from tests.conftest import close, compile_and_call
from tests.test_golden import BACKBONE, MASK_LOGITS, PIXEL_DECODER, SCORES, close_predictions

pytestmark = pytest.mark.optimized


def test_backbone_and_pixel_decoder_take_frames_one_by_one(video):
    stages = [
        (f"res{i}", BACKBONE, map_)
        for i, map_ in enumerate(
            compile_and_call(video.model.backbone, video.clip("pixel_values")[0]), 2
        )
    ]
    features = tuple(video.clip(f"res{i}")[0] for i in (2, 3, 4, 5))
    pyramid = compile_and_call(video.model.pixel_decoder, features)
    stages += [(f"pixel_decoder_{i}", PIXEL_DECODER, map_) for i, map_ in enumerate(pyramid[0])]
    for name, tolerance, ours in [*stages, ("mask_features", PIXEL_DECODER, pyramid.per_pixel)]:
        close(ours, video.clip(name)[0], tolerance)


def test_positions_of_three_frames(video):
    for level in range(3):
        theirs = video.clip(f"position_{level}")[0]
        frames, height, width, dim = theirs.shape
        ours = key_positions((frames,), (height, width), dim)
        close(ours, theirs.reshape(-1, dim), 1e-6)


def test_transformer_decoder(video):
    """On the second clip of a batch; the first has the frames in another order."""
    pyramid = jax.tree.map(lambda x: np.concatenate([x[:, ::-1], x]), video.pyramid)
    ours = compile_and_call(functools.partial(video.model.decoder, all_layers=True), pyramid)
    for found, theirs in zip(ours, video.predictions, strict=True):
        close_predictions(Predictions(*(x[1:] for x in found)), theirs)


def test_frames_to_all_layers(video):
    batch = ImageProcessor().video_batch(video.frames)
    close(batch.pixel_values, video.clip("pixel_values"), 3e-7)
    [size] = batch.sizes
    assert (size.padded, size.resized) == (video.size.padded, video.size.resized)
    for ours, theirs in zip(video.our_predictions, video.predictions, strict=True):
        close_predictions(ours, theirs)


@pytest.mark.parametrize("whose", ["theirs", "ours"])
def test_instances(video, whose):
    predictions = video.predictions[-1] if whose == "theirs" else video.our_predictions[-1]
    predictions = Predictions(*map(jnp.asarray, predictions))
    [found] = ImageProcessor().post_process_video_instance_segmentation(
        predictions, [video.size], top_k=video.settings["post"]["topk"]
    )
    close(found.scores, video.post["scores"], SCORES)
    np.testing.assert_array_equal(found.labels, video.post["labels"])
    np.testing.assert_array_equal(found.queries, video.post["queries"])
    shape = (len(found), 3, *video.size.original)
    theirs = np.unpackbits(video.post["masks"], axis=1, count=np.prod(shape[1:])).reshape(shape)
    # A logit of less than its tolerance may fall on the other side of 0; every fourth is stored.
    different = (found.masks != theirs)[..., ::4, ::4]
    unclear = abs(video.post["out_mask_logits_s4"][found.queries]) < MASK_LOGITS
    assert not (different & ~unclear).any()
    assert (found.masks != theirs).mean() < 1e-4
    for frame in range(3):
        np.testing.assert_array_equal(found.frame(frame).masks, found.masks[:, frame])
    assert found.select(found.scores < found.scores[2]).queries.tolist() == [*found.queries[3:]]
