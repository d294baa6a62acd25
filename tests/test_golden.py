"""Every stage, and all of them together, compute what the authors' PyTorch code computes."""

import dataclasses

import jax
import numpy as np
import pytest

from m2f_jax.segmenter import Segmenter
from m2f_jax.structures import Predictions

# What the authors' own code is off by in float32, with a little room. Each would show an epsilon of
# 1e-6 instead of 1e-5 in the norms, or the approximate GELU.
BACKBONE, PIXEL_DECODER, CLASS_LOGITS, MASK_LOGITS, SCORES = 1e-5, 5e-5, 3e-4, 5e-4, 1e-4


def close(ours, theirs, tolerance):
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, strict=True)


def close_predictions(ours, theirs):
    close(ours.class_logits, theirs.class_logits, CLASS_LOGITS)
    close(ours.mask_logits, theirs.mask_logits, MASK_LOGITS)


@jax.jit
def run(stage, *inputs):
    with jax.default_matmul_precision("highest"):
        return stage(*inputs)


@pytest.fixture(params=["padded", "raw"])
def stages(request, golden):
    if request.param == "padded":
        return golden.stages()
    if "raw_pixel_values" not in golden.network:
        pytest.skip("this one holds the padded images only")
    return golden.stages("raw_")


# Each stage gets what the authors' code gave to it, so that no error is carried along.


def test_backbone(golden, stages):
    features = run(golden.model.backbone, stages.pixel_values)
    for ours, theirs in zip(features, stages.features, strict=True):
        close(ours, theirs, BACKBONE)


def test_pixel_decoder(golden, stages):
    pyramid = run(golden.model.pixel_decoder, stages.features)
    for ours, theirs in zip(pyramid.features, stages.pyramid.features, strict=True):
        close(ours, theirs, PIXEL_DECODER)
    close(pyramid.per_pixel, stages.pyramid.per_pixel, PIXEL_DECODER)


def test_transformer_decoder(golden, stages):
    decoder = golden.model.decoder
    every_layer = run(lambda pyramid: decoder(pyramid, all_layers=True), stages.pyramid)
    assert len(every_layer) == len(decoder.layers) + 1
    for ours, theirs in zip(every_layer, stages.predictions, strict=True):
        close_predictions(ours, theirs)


def test_model(golden, stages):
    every_layer = golden.model(stages.pixel_values, all_layers=True)
    last = golden.model(stages.pixel_values)
    for ours, theirs in zip(every_layer, stages.predictions, strict=True):
        close_predictions(ours, theirs)
    close_predictions(last, stages.predictions[-1])


def test_preprocessing(golden):
    batch = golden.processor(golden.images)
    np.testing.assert_array_equal(batch.pixel_values, golden.stages().pixel_values, strict=True)
    for ours, theirs in zip(batch.sizes, golden.sizes, strict=True):
        assert (ours.padded, ours.resized) == (theirs.padded, theirs.resized)


# Post-processing: of the authors' predictions, and of ours from the images on.


@pytest.fixture(params=["their predictions", "ours"])
def predictions(request, golden):
    if request.param == "ours":
        return golden.our_predictions
    theirs = golden.stages().predictions[-1]
    return Predictions(jax.numpy.asarray(theirs.class_logits), jax.numpy.asarray(theirs.mask_logits))


def check_instances(golden, i, found, keep=slice(None)):
    close(found.scores, golden.post[f"instance_scores_{i}"][keep], SCORES)
    queries = golden.post[f"instance_queries_{i}"][keep]
    np.testing.assert_array_equal(found.queries, queries)
    np.testing.assert_array_equal(found.labels, golden.post[f"instance_labels_{i}"][keep])
    np.testing.assert_array_equal(found.masks, golden.query_masks(i)[queries])


def check_panoptic(golden, i, found):
    np.testing.assert_array_equal(found.segment_map, golden.post[f"panoptic_seg_{i}"])
    segments = [(segment.id, segment.label, segment.is_thing) for segment in found.segments]
    np.testing.assert_array_equal(segments, golden.post[f"panoptic_segments_{i}"])


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


def test_segmenter(golden):
    things = golden.settings["post"]["thing_classes"]
    processor = dataclasses.replace(golden.processor, thing_classes=tuple(things))
    segmenter = Segmenter(golden.model, processor)
    for i, (image, size) in enumerate(zip(golden.images, golden.sizes, strict=True)):

        def segment(task, image=image, size=size):
            return segmenter(
                image, task, top_k=golden.settings["post"]["topk"], target_size=size.original
            )

        keep = np.isin(golden.post[f"instance_labels_{i}"], things)
        check_instances(golden, i, segment("instance"), keep)
        check_panoptic(golden, i, segment("panoptic"))
        np.testing.assert_array_equal(segment("semantic"), golden.post[f"semantic_argmax_{i}"])
