"""Mask2Former and MaskFormer in JAX: segmentation of images and of videos."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from m2f_jax.config import (
        FPNPixelDecoderConfig,
        Mask2FormerConfig,
        MaskFormerConfig,
        MaskFormerDecoderConfig,
        MaskFormerPixelDecoderConfig,
        ModelConfig,
        PixelDecoderConfig,
        ResNetConfig,
        SwinConfig,
        TransformerDecoderConfig,
        VideoMask2FormerConfig,
    )
    from m2f_jax.inference.export.onnx.running import OnnxSegmenter
    from m2f_jax.inference.export.onnx.writing import export_onnx
    from m2f_jax.inference.export.running import ExportedSegmenter
    from m2f_jax.inference.export.writing import export_model
    from m2f_jax.inference.processor import FOR_DISPLAY, FOR_EVALUATION, ImageProcessor
    from m2f_jax.inference.results import (
        InstanceSegmentation,
        PanopticSegmentation,
        Segment,
        VideoInstanceSegmentation,
    )
    from m2f_jax.inference.segmenter import Segmenter
    from m2f_jax.inference.video_segmenter import VideoSegmenter
    from m2f_jax.labels import Label
    from m2f_jax.modeling.mask2former import Mask2Former
    from m2f_jax.modeling.maskformer import MaskFormer
    from m2f_jax.modeling.model import Model
    from m2f_jax.modeling.parts import register_backbone, register_decoder, register_pixel_decoder
    from m2f_jax.modeling.video_mask2former import VideoMask2Former
    from m2f_jax.presets import PRESETS, Preset, preset
    from m2f_jax.pretrained import Pretrained, load, load_for_training
    from m2f_jax.structures import Batch, FeaturePyramid, ImageSize, Predictions

_HOMES = {  # imported when first asked for, so that `m2f --help` needn't wait for JAX
    "config": (
        "FPNPixelDecoderConfig",
        "Mask2FormerConfig",
        "MaskFormerConfig",
        "MaskFormerDecoderConfig",
        "MaskFormerPixelDecoderConfig",
        "ModelConfig",
        "PixelDecoderConfig",
        "ResNetConfig",
        "SwinConfig",
        "TransformerDecoderConfig",
        "VideoMask2FormerConfig",
    ),
    "inference.export.onnx.running": ("OnnxSegmenter",),
    "inference.export.onnx.writing": ("export_onnx",),
    "inference.export.running": ("ExportedSegmenter",),
    "inference.export.writing": ("export_model",),
    "inference.processor": ("FOR_DISPLAY", "FOR_EVALUATION", "ImageProcessor"),
    "inference.results": (
        "InstanceSegmentation",
        "PanopticSegmentation",
        "Segment",
        "VideoInstanceSegmentation",
    ),
    "inference.segmenter": ("Segmenter",),
    "inference.video_segmenter": ("VideoSegmenter",),
    "labels": ("Label",),
    "modeling.mask2former": ("Mask2Former",),
    "modeling.maskformer": ("MaskFormer",),
    "modeling.model": ("Model",),
    "modeling.parts": ("register_backbone", "register_decoder", "register_pixel_decoder"),
    "modeling.video_mask2former": ("VideoMask2Former",),
    "presets": ("PRESETS", "Preset", "preset"),
    "pretrained": ("Pretrained", "load", "load_for_training"),
    "structures": ("Batch", "FeaturePyramid", "ImageSize", "Predictions"),
}

__all__ = [  # noqa: RUF022 - one line per module, as above
    "FPNPixelDecoderConfig", "Mask2FormerConfig", "MaskFormerConfig", "MaskFormerDecoderConfig",
    "MaskFormerPixelDecoderConfig", "ModelConfig", "PixelDecoderConfig", "ResNetConfig",
    "SwinConfig", "TransformerDecoderConfig", "VideoMask2FormerConfig",
    "OnnxSegmenter",
    "export_onnx",
    "ExportedSegmenter",
    "export_model",
    "FOR_DISPLAY", "FOR_EVALUATION", "ImageProcessor",
    "InstanceSegmentation", "PanopticSegmentation", "Segment", "VideoInstanceSegmentation",
    "Segmenter",
    "VideoSegmenter",
    "Label",
    "Mask2Former",
    "MaskFormer",
    "Model",
    "register_backbone", "register_decoder", "register_pixel_decoder",
    "VideoMask2Former",
    "PRESETS", "Preset", "preset",
    "Pretrained", "load", "load_for_training",
    "Batch", "FeaturePyramid", "ImageSize", "Predictions",
]  # fmt: skip


def __getattr__(name: str):
    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"m2f_jax.{module}"), name)
    raise AttributeError(f"module 'm2f_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
