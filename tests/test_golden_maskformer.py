"""A MaskFormer's stages and its post-processing give what the authors' PyTorch code gives."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.modeling.maskformer import MaskFormer
from m2f_jax.structures import Predictions
from tests.conftest import MASKFORMERS, close, compile_and_call, load_golden
from tests.inference.test_postprocess import naive, naive_panoptic

pytestmark = pytest.mark.optimized

# Three times what the authors' own code is off by in float32, from the images on: of the backbone,
# the pixel decoder, the class logits and the mask logits.
TOLERANCES = {
    "maskformer_swin": (6e-6, 1e-5, 8e-5, 2e-4),
    "maskformer_r50_fpn": (2e-5, 2e-5, 1e-4, 4e-4),
    "maskformer_r50": (3e-5, 3e-5, 2e-4, 5e-4),
}


@pytest.fixture(scope="module", params=MASKFORMERS)
def golden(request):
    return load_golden(request.param)


@pytest.fixture(scope="module")
def ours(golden):
    """Our features, pyramid and predictions of all layers, by name as in network.npz."""
    return all_stages(golden, "")


def all_stages(golden, prefix):
    def stages(model, pixel_values):
        features = model.backbone(pixel_values)
        pyramid = model.pixel_decoder(features)
        return features, pyramid, model.decoder(pyramid, all_layers=True)

    images = np.moveaxis(golden.network[f"{prefix}pixel_values"], 1, -1)
    features, pyramid, predictions = compile_and_call(stages, golden.model, images)
    maps = {f"res{i + 2}": x for i, x in enumerate(features)}
    maps |= {"mask_features": pyramid.per_pixel, "transformer_encoder": pyramid.features[0]}
    return {name: np.moveaxis(np.asarray(x), -1, 1) for name, x in maps.items()} | {
        "class_logits": np.stack([x.class_logits for x in predictions]),
        "mask_logits": np.stack([x.mask_logits for x in predictions]),
    }


def test_every_stage_and_all_predictions(golden, ours):
    backbone, pixel_decoder, *logits = TOLERANCES[golden.name]
    for name in ("res2", "res3", "res4", "res5"):
        close(ours[name], golden.network[name], backbone)
    for name in {"mask_features", "transformer_encoder"} & golden.network.keys():
        close(ours[name], golden.network[name], pixel_decoder)
    for name, tolerance in zip(("class_logits", "mask_logits"), logits, strict=True):
        assert len(ours[name]) == golden.settings["num_predictions"]
        close(ours[name], golden.network[name], tolerance)


def test_image_without_padding():
    golden = load_golden("maskformer_swin")
    ours = all_stages(golden, "raw_")
    *_, class_logits, mask_logits = TOLERANCES[golden.name]
    close(ours["class_logits"], golden.network["raw_class_logits"], class_logits)
    close(ours["mask_logits"], golden.network["raw_mask_logits"], mask_logits)


def processor_of(golden):
    return dataclasses.replace(
        golden.processor,
        size_divisor=golden.settings["size_divisibility"] or 1,
        segments_inside_masks=False,
    )


def test_preprocessing(golden):
    batch = processor_of(golden)(golden.images)
    theirs = np.moveaxis(golden.network["pixel_values"], 1, -1)
    close(batch.pixel_values, theirs, 3e-7)  # theirs were rounded from float64
    for one, expected in zip(batch.sizes, golden.sizes, strict=True):
        assert (one.padded, one.resized) == (expected.padded, expected.resized)


@pytest.fixture(params=["theirs", "ours"])
def predictions(request, golden, ours):
    logits = ours if request.param == "ours" else golden.network
    return Predictions(*(jnp.asarray(logits[x][-1]) for x in ("class_logits", "mask_logits")))


def test_panoptic(golden, predictions):
    post = golden.settings["post"]
    results = processor_of(golden).post_process_panoptic_segmentation(
        predictions, golden.sizes, thing_classes=post["thing_classes"]
    )
    theirs = [golden.network[x][-1] for x in ("class_logits", "mask_logits")]
    for i, found in enumerate(results):
        segment_map = golden.post[f"panoptic_seg_{i}"]
        segments = [(segment.id, segment.label, segment.is_thing) for segment in found.segments]
        np.testing.assert_array_equal(segments, golden.post[f"panoptic_segments_{i}"])
        one = Predictions(*(x[i : i + 1] for x in theirs))
        probs, _, logits = naive(one, golden.sizes[i])
        naive_map, _, unclear = naive_panoptic(
            probs,
            logits,
            post["thing_classes"],
            post["object_mask_threshold"],
            post["overlap_threshold"],
            inside_masks=False,
        )
        np.testing.assert_array_equal(naive_map, segment_map)
        assert unclear.mean() < 3e-2  # where two queries bid alike
        assert not ((found.segment_map != segment_map) & ~unclear).any()


def test_semantic_at_either_size(golden, predictions):
    processor = processor_of(golden)
    late = dataclasses.replace(processor, resize_scores=True)
    early = processor.post_process_semantic_segmentation(predictions, golden.sizes)
    results = late.post_process_semantic_segmentation(predictions, golden.sizes)
    for i, (one, other) in enumerate(zip(early, results, strict=True)):
        np.testing.assert_array_equal(one, golden.post[f"semantic_argmax_{i}"])
        scores = golden.post[f"semantic_late_scores_s2_{i}"]
        np.testing.assert_array_equal(other[::2, ::2], scores.argmax(axis=0))


def test_the_class_opens_every_one(golden):
    assert isinstance(golden.model, MaskFormer)
