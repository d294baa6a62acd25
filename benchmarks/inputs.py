"""What all peers are given: images, what one stage hands to the next, and random weights."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from machine import quieten_transformers
from PIL import Image

from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    TransformerDecoderConfig,
)

if TYPE_CHECKING:
    from m2f_jax import FeaturePyramid, ImageSize, Predictions


class Inputs(NamedTuple):
    """What the calls are given: images, and what one stage hands to the next.

    Attributes:
        images: of the size of the network's input.
        larger: what `pixel_values` is made of.
        sizes: how `larger` was resized.
        pixel_values: the network's input.
        features: what the backbone makes of it.
        pyramid: what the pixel decoder makes of these.
        predictions: what the Transformer decoder makes of that.
    """

    images: list[np.ndarray]
    larger: list[np.ndarray]
    sizes: "tuple[ImageSize, ...]"
    pixel_values: np.ndarray
    features: tuple[Any, ...]
    pyramid: "FeaturePyramid"
    predictions: "Predictions"


def draw_images(batch: int, size: tuple[int, int], scale: float = 1.0) -> list[np.ndarray]:
    """Blurred colors under noise, in a size times a scale."""
    rng = np.random.default_rng(0)
    height, width = (int(side * scale) for side in size)
    images = []
    for _ in range(batch):
        colors = Image.fromarray(rng.integers(0, 256, (12, 12, 3), dtype=np.uint8))
        blurred = np.asarray(colors.resize((width, height), Image.Resampling.BICUBIC))
        noisy = blurred + rng.normal(scale=8, size=blurred.shape)
        images.append(np.clip(noisy, 0, 255).astype(np.uint8))
    return images


def save_random_weights(config: Mask2FormerConfig, folder: Path):
    """A model of this architecture as transformers writes it, in which every parameter counts.

    As initialised, all queries sample the same points with equal weights, and windows have no bias.
    """
    import torch
    from transformers import Mask2FormerConfig as TheirConfig
    from transformers import Mask2FormerForUniversalSegmentation
    from transformers import SwinConfig as TheirSwinConfig

    quieten_transformers()
    swin, pixel, decoder = config.backbone, config.pixel_decoder, config.decoder
    assert isinstance(swin, SwinConfig), "every preset's"
    assert isinstance(pixel, PixelDecoderConfig), "every preset's"
    assert isinstance(decoder, TransformerDecoderConfig), "every preset's"
    backbone: dict[str, Any] = {
        "embed_dim": swin.embed_dim,
        "depths": list(swin.depths),
        "num_heads": list(swin.num_heads),
        "window_size": swin.window_size,
        "mlp_ratio": swin.mlp_ratio,
        "out_features": ["stage1", "stage2", "stage3", "stage4"],
    }
    rest: dict[str, Any] = {
        "feature_size": pixel.dim,
        "mask_feature_size": pixel.mask_dim,
        "encoder_feedforward_dim": pixel.ffn_dim,
        "encoder_layers": pixel.num_layers,
        "hidden_dim": decoder.dim,
        "dim_feedforward": decoder.ffn_dim,
        "decoder_layers": decoder.num_layers + 1,
        "num_attention_heads": decoder.num_heads,
        "num_queries": decoder.num_queries,
        "num_labels": config.num_classes,
    }
    torch.manual_seed(0)
    model = Mask2FormerForUniversalSegmentation(
        TheirConfig(backbone_config=TheirSwinConfig(**backbone), **rest)
    )
    spread = {
        "sampling_offsets": 0.02,
        "attention_weights": 0.02,
        "relative_position_bias": 0.2,
        "queries_": 1.0,
        "level_embed": 1.0,
    }
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            std = next((std for part, std in spread.items() if part in name), 0.0)
            parameter += std * torch.randn_like(parameter)
    model.save_pretrained(folder)
