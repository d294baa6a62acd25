"""Every stage, and all of them together, compute what the authors' PyTorch code computes."""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.config import ResNetConfig
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.structures import Predictions
from tests.conftest import close
from tests.inference.test_postprocess import naive, naive_panoptic

pytestmark = pytest.mark.optimized

# What the authors' own code is off by in float32, with a little room. Tight enough to show an
# epsilon of 1e-6 instead of 1e-5 in the norms, or the approximate GELU.
BACKBONE, PIXEL_DECODER, CLASS_LOGITS, MASK_LOGITS, SCORES = 1e-5, 5e-5, 3e-4, 5e-4, 1e-4
RESNET = 2.5e-5  # transformers' in float32 is off by 1.9e-5 where norms have variances near 0


def close_predictions(ours, theirs):
    close(ours.class_logits, theirs.class_logits, CLASS_LOGITS)
    close(ours.mask_logits, theirs.mask_logits, MASK_LOGITS)


# Each stage gets what the authors' code gave to it, so that no error is carried along.


def test_backbone(stages, run):
    features = run(stages.model.backbone, stages.pixel_values)
    tolerance = RESNET if isinstance(stages.model.config.backbone, ResNetConfig) else BACKBONE
    for ours, theirs in zip(features, stages.features, strict=True):
        close(ours, theirs, tolerance)


def test_pixel_decoder(stages, run):
    pyramid = run(stages.model.pixel_decoder, stages.features)
    for ours, theirs in zip(pyramid.features, stages.pyramid.features, strict=True):
        close(ours, theirs, PIXEL_DECODER)
    close(pyramid.per_pixel, stages.pyramid.per_pixel, PIXEL_DECODER)


def test_transformer_decoder(stages, run):
    decoder = stages.model.decoder
    every_layer = run(functools.partial(decoder, all_layers=True), stages.pyramid)
    assert len(every_layer) == len(decoder.layers) + 1
    for ours, theirs in zip(every_layer, stages.predictions, strict=True):
        close_predictions(ours, theirs)


# All stages, from the images on.


def test_preprocessing(golden):
    batch = golden.processor(golden.images)
    theirs = golden.stages().pixel_values
    close(batch.pixel_values, theirs, 3e-7)  # theirs were rounded from float64
    np.testing.assert_array_equal(batch.pixel_values == 0, theirs == 0)
    for ours, expected in zip(batch.sizes, golden.sizes, strict=True):
        assert (ours.padded, ours.resized) == (expected.padded, expected.resized)


def test_all_layers(golden):
    for ours, theirs in zip(golden.our_predictions, golden.stages().predictions, strict=True):
        close_predictions(ours, theirs)


@pytest.mark.parametrize("stages", ["tiny_w7_odd raw_"], indirect=True)
def test_image_without_padding(stages):
    close_predictions(stages.model(stages.pixel_values), stages.predictions[-1])


# Post-processing, of the authors' predictions and of ours.


@pytest.fixture(params=["theirs", "ours"])
def predictions(request, golden):
    if request.param == "ours":
        return golden.our_predictions[-1]
    return Predictions(*map(jnp.asarray, golden.stages().predictions[-1]))


def naive_in_float64(golden, i):
    """Class probabilities and mask logits at the output size, of the authors' predictions."""
    theirs = golden.stages().predictions[-1]
    one = Predictions(*(x[i : i + 1] for x in theirs))
    probs, _, logits = naive(one, golden.sizes[i])
    return probs, logits


def check_instances(golden, i, found, keep=slice(None)):
    queries = golden.post[f"instance_queries_{i}"][keep]
    close(found.scores, golden.post[f"instance_scores_{i}"][keep], SCORES)
    np.testing.assert_array_equal(found.labels, golden.post[f"instance_labels_{i}"][keep])
    np.testing.assert_array_equal(found.queries, queries)
    # A logit of less than its tolerance may fall on the other side of 0.
    _, logits = naive_in_float64(golden, i)
    unclear = abs(logits) < MASK_LOGITS
    assert unclear.mean() < 1e-3
    different = found.masks != golden.query_masks(i)[queries]
    assert not (different & ~unclear[queries]).any()


def check_panoptic(golden, i, found):
    post = golden.settings["post"]
    theirs, theirs_segments = (golden.post[f"panoptic_{x}_{i}"] for x in ("seg", "segments"))
    segments = [(segment.id, segment.label, segment.is_thing) for segment in found.segments]
    np.testing.assert_array_equal(segments, theirs_segments)
    # A pixel may fall either way if two queries bid alike or its probability is almost 0.5.
    segment_map, _, unclear = naive_panoptic(
        *naive_in_float64(golden, i),
        post["thing_classes"],
        post["object_mask_threshold"],
        post["overlap_threshold"],
    )
    np.testing.assert_array_equal(segment_map, theirs)
    assert unclear.mean() < 1e-2
    assert not ((found.segment_map != theirs) & ~unclear).any()


def test_instances(golden, predictions):
    results = golden.processor.post_process_instance_segmentation(
        predictions, golden.sizes, top_k=golden.settings["post"]["topk"]
    )
    for i, found in enumerate(results):
        check_instances(golden, i, found)


def test_panoptic(golden, predictions):
    results = golden.processor.post_process_panoptic_segmentation(
        predictions, golden.sizes, thing_classes=golden.settings["post"]["thing_classes"]
    )
    for i, found in enumerate(results):
        check_panoptic(golden, i, found)


def test_semantic(golden, predictions):
    results = golden.processor.post_process_semantic_segmentation(predictions, golden.sizes)
    for i, found in enumerate(results):
        np.testing.assert_array_equal(found, golden.post[f"semantic_argmax_{i}"])


def test_semantic_of_scores_at_the_padded_size(golden, predictions):
    processor = dataclasses.replace(golden.processor, resize_scores=True)
    results = processor.post_process_semantic_segmentation(predictions, golden.sizes)
    for i, found in enumerate(results):
        scores = golden.post[f"semantic_late_scores_s2_{i}"]
        np.testing.assert_array_equal(found[::2, ::2], scores.argmax(axis=0))


@pytest.mark.parametrize("golden", ["tiny_batch2"], indirect=True)
def test_segmenter(golden):
    post = golden.settings["post"]
    processor = dataclasses.replace(golden.processor, thing_classes=tuple(post["thing_classes"]))
    segmenter = Segmenter(golden.model, processor)
    for i, (image, size) in enumerate(zip(golden.images, golden.sizes, strict=True)):
        segment = functools.partial(segmenter, image, top_k=post["topk"], target_size=size.original)
        things = np.isin(golden.post[f"instance_labels_{i}"], post["thing_classes"])
        check_instances(golden, i, segment("instance"), things)
        check_panoptic(golden, i, segment("panoptic"))
        np.testing.assert_array_equal(segment("semantic"), golden.post[f"semantic_argmax_{i}"])
