"""The fields of a Mask2Former in Hugging Face's config.json, in both directions."""

from collections.abc import Mapping
from typing import Any

from m2f_jax.config import Mask2FormerConfig, PixelDecoderConfig, Task, TransformerDecoderConfig
from m2f_jax.labels import Label
from m2f_jax.plain import type_of

from .backbones import read_backbone
from .json_fields import about, check_fields, field

REQUIRED = {  # fields whose other values mean another network
    "common_stride": 4,
    "pre_norm": False,
    "enforce_input_projection": False,
    "activation_function": "relu",
    "feature_strides": [4, 8, 16, 32],
}


def read(
    values: Mapping[str, Any], labels: tuple[Label, ...], task: Task, where: str
) -> Mask2FormerConfig:
    """Returns our config; arguments and errors as of `config_from_huggingface`."""
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


def count_queries(values: Mapping[str, Any], where: str) -> int:
    """Returns the number of queries; raises ValueError as `read`."""
    return field(values, "num_queries", int, where)


def write(config: Mask2FormerConfig) -> dict[str, Any]:
    """Returns the fields that describe a Mask2Former's decoders.

    Raises:
        ValueError: they can't express the architecture; the message names the part.
    """
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
    return {
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
        "dropout": 0.0,
    }
