"""The fields of a MaskFormer in Hugging Face's config.json, in both directions."""

from collections.abc import Mapping
from typing import Any

from m2f_jax.config import (
    MaskFormerConfig,
    MaskFormerDecoderConfig,
    MaskFormerPixelDecoderConfig,
    Task,
)
from m2f_jax.labels import Label
from m2f_jax.plain import type_of

from .backbones import read_backbone
from .json_fields import about, check_fields, field

REQUIRED_OF_DECODER = {"model_type": "detr", "activation_function": "relu"}


def read(
    values: Mapping[str, Any], labels: tuple[Label, ...], task: Task, where: str
) -> MaskFormerConfig:
    """Returns our config; arguments and errors as of `config_from_huggingface`."""
    backbone = values.get("backbone_config")
    if isinstance(backbone, Mapping) and backbone.get("model_type") == "maskformer-swin":
        backbone = {**backbone, "model_type": "swin"}  # as transformers calls it in memory
    backbone = read_backbone(backbone, f"{where}: backbone_config")
    decoder, of_decoder = _decoder(values, where)
    check_fields(decoder, REQUIRED_OF_DECODER, of_decoder)
    dim = field(decoder, "d_model", int, of_decoder)
    sizes_of_pixel_decoder = {
        "dim": dim,
        "fpn_dim": field(values, "fpn_feature_size", int, where),
        "mask_dim": field(values, "mask_feature_size", int, where),
    }
    sizes_of_decoder = {
        "dim": dim,
        "num_layers": field(decoder, "decoder_layers", int, of_decoder),
        "num_heads": field(decoder, "decoder_attention_heads", int, of_decoder),
        "ffn_dim": field(decoder, "decoder_ffn_dim", int, of_decoder),
        "num_queries": field(decoder, "num_queries", int, of_decoder),
        "dropout": field(decoder, "dropout", float, of_decoder, 0.1),
    }
    with about(where):
        return MaskFormerConfig(
            labels=labels,
            task=task,
            backbone=backbone,
            pixel_decoder=MaskFormerPixelDecoderConfig(**sizes_of_pixel_decoder),
            decoder=MaskFormerDecoderConfig(**sizes_of_decoder),
        )


def count_queries(values: Mapping[str, Any], where: str) -> int:
    """Returns the number of queries; raises ValueError as `read`."""
    decoder, of_decoder = _decoder(values, where)
    return field(decoder, "num_queries", int, of_decoder)


def _decoder(values: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], str]:
    """Returns the object that describes the Transformer decoder, and its place for messages.

    Raises:
        ValueError: it is missing.
    """
    decoder = values.get("decoder_config")
    if not isinstance(decoder, Mapping):
        problem = "is missing" if decoder is None else f"is {decoder!r:.80}"
        raise ValueError(f"{where}: decoder_config {problem}; is it a MaskFormer's?")
    return decoder, f"{where}: decoder_config"


def write(config: MaskFormerConfig) -> dict[str, Any]:
    """Returns the fields that describe a MaskFormer's decoders.

    Raises:
        ValueError: they can't express the architecture; the message names the part.
    """
    pixel, decoder = config.pixel_decoder, config.decoder
    for part, cfg, kind in (
        ("pixel_decoder", pixel, MaskFormerPixelDecoderConfig),
        ("decoder", decoder, MaskFormerDecoderConfig),
    ):
        if not isinstance(cfg, kind):
            raise ValueError(
                f"transformers' MaskFormer has only the {part} of the authors; this model's is of "
                f"the type {type_of(cfg)!r}, so it stays in this package's format"
            )
    assert isinstance(pixel, MaskFormerPixelDecoderConfig)
    assert isinstance(decoder, MaskFormerDecoderConfig)
    if pixel.encoder_layers:
        raise ValueError(
            "transformers' MaskFormer has no encoder layers in its pixel decoder, and this model "
            f"has pixel_decoder.encoder_layers {pixel.encoder_layers}, so it stays in this "
            "package's format"
        )
    if config.backbone.channels[-1] == pixel.dim:
        raise ValueError(
            "transformers' MaskFormer projects the backbone's last map only where its width isn't "
            f"the decoder's, and this model's are both {pixel.dim}, so it stays in this package's "
            "format"
        )
    return {
        "fpn_feature_size": pixel.fpn_dim,
        "mask_feature_size": pixel.mask_dim,
        "decoder_config": {
            **REQUIRED_OF_DECODER,
            "d_model": decoder.dim,
            "decoder_layers": decoder.num_layers,
            "decoder_attention_heads": decoder.num_heads,
            "decoder_ffn_dim": decoder.ffn_dim,
            "num_queries": decoder.num_queries,
            "dropout": decoder.dropout,
        },
        # The constructor of transformers' config checks the heads against these.
        "num_attention_heads": decoder.num_heads,
        "num_hidden_layers": decoder.num_layers,
    }
