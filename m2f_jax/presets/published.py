"""The published models of images and videos: architecture, test size and scores.

Facts from the authors' configuration files and, in `model_zoo`, their model zoos; names as on the
Hugging Face hub.
"""

from collections.abc import Mapping
from typing import Literal

from m2f_jax.config import (
    Mask2FormerConfig,
    MaskFormerConfig,
    MaskFormerPixelDecoderConfig,
    ResNetConfig,
    SwinConfig,
    Task,
    TransformerDecoderConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.presets.definition import HUB_PREFIX, MASKFORMER_HUB_PREFIX, Preset
from m2f_jax.presets.model_zoo import MASK2FORMER, MASKFORMER, VIDEO_MASK2FORMER, ZooTable

SWIN_TINY = SwinConfig()
SWIN_SMALL = SwinConfig(depths=(2, 2, 18, 2))
SWIN_BASE = SwinConfig(
    embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), window_size=12
)
SWIN_LARGE = SwinConfig(
    embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), window_size=12
)
RESNET50 = ResNetConfig()
RESNET101 = ResNetConfig(depths=(3, 4, 23, 3))
RESNET101C = ResNetConfig(depths=(3, 4, 23, 3), stem_dim=128, deeplab=True)
_PARAMETERS = {  # with both decoders, but without what depends on classes and queries
    RESNET50: 43_898_240,
    RESNET101: 62_838_144,
    SWIN_TINY: 47_349_626,
    SWIN_SMALL: 68_667_530,
    SWIN_BASE: 106_832_184,
    SWIN_LARGE: 215_398_772,
}
_MASKFORMER_PARAMETERS = {  # the same, of MaskFormers without encoder layers
    RESNET50: 41_190_336,
    RESNET101: 60_130_240,
    RESNET101C: 60_253_632,
    SWIN_TINY: 41_692_602,
    SWIN_SMALL: 63_010_506,
    SWIN_BASE: 101_764_984,
    SWIN_LARGE: 211_511_220,
}
_ENCODER_LAYER = 1_315_072  # parameters of one
_NARROWER_TOP = 4_128_768  # parameters that a ResNet's FPN lacks if it starts from encoder layers
_BACKBONES = {  # Swin-B was pretrained on ImageNet-1k, "base-IN21k" and Swin-L on ImageNet-21k
    "resnet50": RESNET50,
    "resnet101": RESNET101,
    "resnet101c": RESNET101C,
    "swin-tiny": SWIN_TINY,
    "swin-small": SWIN_SMALL,
    "swin-base": SWIN_BASE,
    "swin-base-IN21k": SWIN_BASE,
    "swin-large": SWIN_LARGE,
}


def _mask2formers(
    table: ZooTable, architecture: Literal["mask2former", "video_mask2former"]
) -> dict[str, Preset]:
    """Returns the presets of a table of Mask2Former's model zoo."""
    of_videos = architecture == "video_mask2former"
    kind = VideoMask2FormerConfig if of_videos else Mask2FormerConfig
    data_set, task, test_size, metrics, rows, _ = table
    presets = {}
    for backbone, (digits, *scores) in rows.items():
        name = f"{backbone}-{data_set}-{task}"
        cfg = _BACKBONES[backbone]
        queries = 200 if backbone == "swin-large" and task != "semantic" else 100
        presets[name] = Preset(
            architecture=architecture,
            data_set=data_set,
            config=kind(
                labels=table.labels,
                task=task,
                backbone=cfg,
                decoder=TransformerDecoderConfig(num_queries=queries),
            ),
            shortest_edge=test_size[0],
            longest_edge=test_size[1],
            object_mask_threshold=0.0 if data_set == "mapillary-vistas" else 0.8,
            parameters=_PARAMETERS[cfg] + 257 * (len(table.labels) + 1) + 2 * 256 * queries,
            scores=dict(zip(metrics, scores, strict=True)),
            file=f"model_final_{digits}.pkl",
            hub=HUB_PREFIX + name if _is_on_hub(backbone, data_set, task) else None,
        )
    return presets


def _is_on_hub(backbone: str, data_set: str, task: Task) -> bool:
    """Returns whether a public trace of the model's repository on the hub was found."""
    if backbone.startswith("resnet") or data_set.startswith("youtubevis"):
        return False
    if (data_set, task) == ("ade", "instance"):
        return False
    return (backbone, data_set, task) != ("swin-base-IN21k", "cityscapes", "instance")


def _maskformers(table: ZooTable) -> dict[str, Preset]:
    """Returns the presets of a table of MaskFormer's model zoo."""
    data_set, task, test_size, metrics, rows, ending = table
    presets = {}
    for backbone, (digits, *scores) in rows.items():
        name = f"maskformer-{backbone}-{ending}"
        cfg = _BACKBONES[backbone]
        layers = 6 if task == "panoptic" and isinstance(cfg, ResNetConfig) else 0
        is_on_hub = not layers and cfg != RESNET101C and name not in _MASKFORMERS_NOT_ON_HUB
        presets[name] = Preset(
            architecture="maskformer",
            data_set=data_set,
            config=MaskFormerConfig(
                labels=table.labels,
                task=task,
                backbone=cfg,
                pixel_decoder=MaskFormerPixelDecoderConfig(encoder_layers=layers),
            ),
            shortest_edge=test_size[0],
            longest_edge=test_size[1],
            size_divisor=1 if data_set == "coco" else 32,  # the authors' 0
            object_mask_threshold=0.7 if data_set == "ade" else 0.8,
            parameters=_MASKFORMER_PARAMETERS[cfg]
            + layers * _ENCODER_LAYER
            - bool(layers) * _NARROWER_TOP
            + 257 * (len(table.labels) + 1)
            + 256 * 100,
            scores=dict(zip(metrics, scores, strict=True)),
            file=f"model_final_{digits}.pkl",
            hub=MASKFORMER_HUB_PREFIX + name if is_on_hub else None,
        )
    return presets


# No public trace of these repositories was found, though transformers could hold such models.
_MASKFORMERS_NOT_ON_HUB = (
    "maskformer-resnet101-ade20k-full",
    "maskformer-resnet50-coco-stuff",
    "maskformer-resnet101-coco-stuff",
)

PRESETS: Mapping[str, Preset] = {
    name: preset
    for presets in (
        *(_mask2formers(table, "mask2former") for table in MASK2FORMER),
        *(_maskformers(table) for table in MASKFORMER),
        *(_mask2formers(table, "video_mask2former") for table in VIDEO_MASK2FORMER),
    )
    for name, preset in presets.items()
}
