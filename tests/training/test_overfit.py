"""Training learns: two images by heart, to an AP above 0.9."""

import jax
import numpy as np
import pytest
from m2f_jax.eval import CocoMaskAP

from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import numbered
from m2f_jax.masks.rle import encode_rle
from m2f_jax.training import (
    LossConfig,
    OptimizerConfig,
    TrainBatch,
    TrainConfig,
    TrainState,
    initialize,
    train_step,
)

SIZE = (64, 96)
IMAGES, OBJECTS, CLASSES = 2, 3, 2
COLORS = np.array([[200, 60, 40], [40, 90, 210]])
MODEL = Mask2FormerConfig(
    labels=numbered(CLASSES),
    task="instance",
    backbone=SwinConfig(
        embed_dim=16,
        depths=(1, 1, 1, 1),
        num_heads=(1, 2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
    ),
    pixel_decoder=PixelDecoderConfig(
        dim=64, mask_dim=64, num_layers=1, num_heads=2, num_points=1, ffn_dim=128
    ),
    decoder=TransformerDecoderConfig(
        dim=64, num_layers=1, num_heads=2, ffn_dim=128, num_queries=10
    ),
)
TRAIN = TrainConfig(
    model=MODEL,
    steps=80,
    loss=LossConfig(num_points=256),
    optimizer=OptimizerConfig(
        learning_rate=2e-3, backbone_multiplier=1.0, clip_norm=1.0, warmup_steps=20
    ),
)


def draw_batch() -> TrainBatch:
    """Ellipses that don't touch, in the colors of their classes under noise."""
    rng = np.random.default_rng(0)
    height, width = SIZE
    y, x = np.mgrid[:height, :width]
    images = rng.normal(120, 15, (IMAGES, *SIZE, 3))
    regions = np.zeros((IMAGES, *SIZE), np.uint16)
    labels = rng.integers(CLASSES, size=(IMAGES, OBJECTS)).astype(np.int32)
    for image in range(IMAGES):
        for k in range(OBJECTS):
            centre_y = rng.uniform(0.35, 0.65) * height
            centre_x = (k + rng.uniform(0.4, 0.6)) * width / OBJECTS
            half_height, half_width = rng.uniform(14, 24), rng.uniform(9, 13)
            inside = ((y - centre_y) / half_height) ** 2 + ((x - centre_x) / half_width) ** 2 < 1
            regions[image, inside] = k + 1
            images[image, inside] = COLORS[labels[image, k]] + rng.normal(
                scale=15, size=(inside.sum(), 3)
            )
    members = np.broadcast_to(np.eye(OBJECTS, OBJECTS + 1, 1, dtype=bool), (IMAGES, OBJECTS, 4))
    return TrainBatch(
        images.clip(0, 255).astype(np.uint8),
        regions,
        members,
        labels,
        valid=np.ones((IMAGES, OBJECTS), bool),
        left_out=np.zeros(IMAGES, np.int32),
    )


def annotations_of(batch: TrainBatch) -> dict:
    """The batch's objects in COCO's format."""
    height, width = SIZE
    objects = [
        {
            "id": 1 + image * OBJECTS + k,
            "image_id": image,
            "category_id": int(batch.labels[image, k]),
            "segmentation": encode_rle(mask),
            "area": int(mask.sum()),
            "bbox": [0, 0, width, height],
            "iscrowd": 0,
        }
        for image in range(IMAGES)
        for k, mask in enumerate(batch.regions[image] == np.arange(1, OBJECTS + 1)[:, None, None])
    ]
    return {
        "images": [{"id": image, "height": height, "width": width} for image in range(IMAGES)],
        "categories": [{"id": k, "name": str(k)} for k in range(CLASSES)],
        "annotations": objects,
    }


@pytest.mark.slow
def test_two_images_are_learnt_by_heart():
    batch = draw_batch()
    state = TrainState.of(initialize(MODEL, 0), TRAIN)
    on_device, key = state.partitioner.put_batch(batch), jax.random.key(0)
    for _ in range(TRAIN.steps):
        state, _ = train_step(state, on_device, key)
    segmenter = Segmenter(state.model(), ImageProcessor(shortest_edge=None, longest_edge=None))
    metric = CocoMaskAP(annotations_of(batch))
    for image in range(IMAGES):
        found = segmenter(np.asarray(batch.pixel_values[image]))
        metric.add(image, found.masks, found.labels, found.scores)
    assert metric.result().ap > 0.9
