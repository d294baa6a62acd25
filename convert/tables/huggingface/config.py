"""Hugging Face's config.json and preprocessor_config.json, in both directions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from m2f_jax.config import (
    Mask2FormerConfig,
    ModelConfig,
    PixelDecoderConfig,
    Task,
    TransformerDecoderConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.labels import Label
from m2f_jax.plain import type_of

from ..origins import HuggingFaceBackbone
from ..parts import BACKBONES, find_part
from .json_fields import about, check_fields, field

CONFIG = "config.json"
NO_OBJECT_WEIGHT = 0.1
UNLIMITED = 10**6  # transformers has no shortest edge without a longest one
REQUIRED = {  # fields whose other values mean another network
    "common_stride": 4,
    "pre_norm": False,
    "enforce_input_projection": False,
    "activation_function": "relu",
    "feature_strides": [4, 8, 16, 32],
}
REQUIRED_OF_PROCESSOR = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True}


def config_from_huggingface(
    values: Mapping[str, Any], labels: tuple[Label, ...], task: Task, where: str = CONFIG
) -> Mask2FormerConfig:
    """Returns our config for one of theirs.

    Raises:
        ValueError: a field is missing, of a wrong type, or has a value that means another network;
            the message begins with `where` and names it.
    """
    architectures = field(values, "architectures", tuple[str, ...] | None, where, None) or ()
    if any("Video" in name for name in architectures):
        raise ValueError(
            f"{where}: architectures names a video model, which transformers has no class for; "
            "open the authors' file of it with m2f_jax.VideoMask2Former"
        )
    check_fields(values, REQUIRED, where)
    backbone = read_backbone(values.get("backbone_config"), f"{where}: backbone_config")
    dim, hidden_dim = (field(values, name, int, where) for name in ("feature_size", "hidden_dim"))
    if dim != hidden_dim:
        raise ValueError(
            f"{where}: feature_size {dim} and hidden_dim {hidden_dim} differ; only models where "
            "they are equal are supported"
        )
    num_heads = field(values, "num_attention_heads", int, where)
    sizes_of_pixel_decoder = {
        "dim": dim,
        "mask_dim": field(values, "mask_feature_size", int, where),
        "num_layers": field(values, "encoder_layers", int, where),
        "num_heads": num_heads,
        "ffn_dim": field(values, "encoder_feedforward_dim", int, where, 1024),
    }
    sizes_of_decoder = {
        "dim": dim,
        "num_layers": field(values, "decoder_layers", int, where) - 1,
        "num_heads": num_heads,
        "ffn_dim": field(values, "dim_feedforward", int, where),
        "num_queries": field(values, "num_queries", int, where),
    }
    with about(where):
        return Mask2FormerConfig(
            labels=labels,
            task=task,
            backbone=backbone,
            pixel_decoder=PixelDecoderConfig(**sizes_of_pixel_decoder),
            decoder=TransformerDecoderConfig(**sizes_of_decoder),
        )


def read_backbone(values: Any, where: str) -> Any:
    """Returns our config for a `backbone_config`; one that states no kind is read as a Swin's.

    Raises:
        ValueError: it is missing or of an unknown kind, or its kind refuses it.
    """
    if not isinstance(values, Mapping):
        problem = "is missing" if values is None else f"is {values!r:.80}"
        raise ValueError(f"{where} {problem}; only backbones described there are supported")
    known = {backbone.model_type: backbone for backbone in backbones()}
    kind = values.get("model_type", next(iter(known)))
    if not isinstance(kind, str) or kind not in known:
        names = " or ".join(map(repr, known))
        raise ValueError(
            f"{where}: model_type is {kind!r:.80}; only models with {names} are supported"
        )
    return known[kind].read(values, where)


def backbones() -> list[HuggingFaceBackbone]:
    """Returns the kinds of backbone that can be described in JSON, the most usual one first."""
    parts = [tables.huggingface for tables in BACKBONES.values() if tables.huggingface is not None]
    return [part.backbone for part in parts if part.backbone is not None]


def write_backbone(config: ModelConfig) -> dict[str, Any]:
    """Returns a model's `backbone_config`.

    Raises:
        ValueError: transformers has no such backbone.
    """
    backbone: HuggingFaceBackbone | None = find_part(config, "backbone", "huggingface").backbone
    if backbone is None:
        kind = type(config.backbone).__name__
        raise ValueError(f"Hugging Face's configuration has no fields for a backbone of {kind}")
    return backbone.write(config.backbone)


def class_names(values: Mapping[str, Any], where: str = CONFIG) -> list[str]:
    """Returns the classes of a config, by index.

    Raises:
        ValueError: `id2label` doesn't number its classes from 0, or one has no name; the message
            begins with `where`.
    """
    id2label = values.get("id2label", {"0": "LABEL_0", "1": "LABEL_1"})  # left out if it's this
    keys = [str(k) for k in range(len(id2label))] if isinstance(id2label, Mapping) else []
    if not keys or set(keys) != set(id2label):
        raise ValueError(f'{where}: id2label needs the classes under "0", "1", ...')
    return [field(id2label, key, str, f"{where}: id2label") for key in keys]


def config_to_huggingface(config: ModelConfig, dtype: str = "float32") -> dict[str, Any]:
    """Returns the config.json with which transformers builds the same network.

    Raises:
        ValueError: their configuration can't express the architecture; the message says which part.
    """
    if isinstance(config, VideoMask2FormerConfig):
        raise ValueError(
            "transformers has no class for video models; this one stays in this package's format"
        )
    pixel, decoder = config.pixel_decoder, config.decoder
    for part, cfg, kind, theirs in (
        ("pixel_decoder", pixel, PixelDecoderConfig, "the deformable pixel decoder"),
        ("decoder", decoder, TransformerDecoderConfig, "the masked-attention decoder"),
    ):
        if not isinstance(cfg, kind):
            raise ValueError(
                f"Hugging Face's configuration knows only {theirs}; this model's {part} is of the "
                f"type {type_of(cfg)!r}, so it stays in this package's format"
            )
    assert isinstance(pixel, PixelDecoderConfig)
    assert isinstance(decoder, TransformerDecoderConfig)
    if not decoder.masked:
        raise ValueError(
            "Hugging Face's configuration knows only masked cross-attention; this model has "
            "decoder.masked false, so it stays in this package's format"
        )
    if pixel.num_heads != decoder.num_heads or pixel.num_points != 4:
        raise ValueError(
            "Hugging Face's configuration has one number of heads for both decoders and always 4 "
            f"points; this model has {pixel.num_heads} and {decoder.num_heads} heads and "
            f"{pixel.num_points} points"
        )
    names = [label.name for label in config.labels]
    return {
        "architectures": ["Mask2FormerForUniversalSegmentation"],
        "model_type": "mask2former",
        "backbone_config": write_backbone(config),
        **REQUIRED,
        "feature_size": pixel.dim,
        "mask_feature_size": pixel.mask_dim,
        "hidden_dim": decoder.dim,
        "encoder_layers": pixel.num_layers,
        "encoder_feedforward_dim": pixel.ffn_dim,
        "num_attention_heads": decoder.num_heads,
        "decoder_layers": decoder.num_layers + 1,
        "dim_feedforward": decoder.ffn_dim,
        "num_queries": decoder.num_queries,
        "no_object_weight": NO_OBJECT_WEIGHT,
        "dropout": 0.0,
        "id2label": {str(k): name for k, name in enumerate(names)},
        "label2id": {name: k for k, name in enumerate(names)},
        "dtype": dtype,
    }


def processor_from_huggingface(
    values: Mapping[str, Any], processor: ImageProcessor, where: str
) -> ImageProcessor:
    """Returns `processor` with the size, statistics and divisor of their preprocessor_config.json.

    Their square {"height", "width"} distorts images; its side becomes the shortest edge here.

    Raises:
        ValueError: a field is of a wrong type or asks for something unsupported; the message
            begins with `where`.
    """
    check_fields(values, REQUIRED_OF_PROCESSOR, where)
    size = values.get("size")
    if not isinstance(size, Mapping):  # an early form: the shortest edge alone
        size = {"shortest_edge": size}
    size = {key: field(size, key, int | None, f"{where}: size") for key in size}
    name = "max_size" if "max_size" in values else "_max_size"
    longest = field(values, name, int | None, where, None)
    longest = longest if size.get("longest_edge") is None else size["longest_edge"]
    sides = [size.get(key) for key in ("shortest_edge", "height", "width")]
    sides = [side for side in sides if side is not None]
    if field(values, "do_resize", bool, where, True):
        shortest = min(sides, default=processor.shortest_edge)
    else:
        shortest = None

    def scaled(key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        stored = field(values, key, tuple[float, ...] | None, where, None)
        return default if stored is None else tuple(round(255 * x, 3) for x in stored)

    changes = {
        "shortest_edge": shortest,
        "longest_edge": None if longest == UNLIMITED else longest,
        "size_divisor": field(values, "size_divisor", int, where, 32),
        "mean": scaled("image_mean", processor.mean),
        "std": scaled("image_std", processor.std),
    }
    with about(where):
        return dataclasses.replace(processor, **changes)


def processor_to_huggingface(processor: ImageProcessor) -> dict[str, Any]:
    """Returns a preprocessor_config.json for transformers with the same size and statistics.

    transformers can't keep the native size up to a limit; it ignores the limit.
    """
    size = {"longest_edge": processor.longest_edge or UNLIMITED}
    if processor.shortest_edge is not None:
        size["shortest_edge"] = processor.shortest_edge
    return {
        "image_processor_type": "Mask2FormerImageProcessor",
        "do_resize": processor.shortest_edge is not None,
        "size": size,
        "size_divisor": processor.size_divisor,
        "resample": 2,
        **REQUIRED_OF_PROCESSOR,
        "image_mean": [x / 255 for x in processor.mean],
        "image_std": [x / 255 for x in processor.std],
        "ignore_index": 255,
        "do_reduce_labels": False,
    }
