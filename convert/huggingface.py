"""Hugging Face's checkpoints: their names, and their config.json in both directions."""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    Task,
    TransformerDecoderConfig,
)
from m2f_jax.labels import Label
from m2f_jax.processor import ImageProcessor

from .rules import (
    CONVOLUTION,
    POINTWISE,
    fused_attention,
    fused_here,
    kernel,
    linear,
    norm,
    patches,
    tensor,
)

SWIN = "model.pixel_level_module.encoder"
BLOCK = f"{SWIN}.encoder.layers.{{}}.blocks.{{}}"
OUR_BLOCK = "backbone.stages.{}.blocks.{}"
PIXEL = "model.pixel_level_module.decoder"
ENCODER = f"{PIXEL}.encoder.layers.{{}}"
TRANSFORMER = "model.transformer_module"
LAYER = f"{TRANSFORMER}.decoder.layers.{{}}"

RULES = (  # theirs, ours; {} is a layer number
    *linear(
        f"{SWIN}.embeddings.patch_embeddings.projection",
        "backbone.patch_embedding.projection",
        patches(4),
    ),
    *norm(f"{SWIN}.embeddings.norm", "backbone.patch_embedding.norm"),
    *norm(f"{BLOCK}.layernorm_before", f"{OUR_BLOCK}.norm1"),
    *tensor(
        f"{BLOCK}.attention.self.relative_position_bias_table",
        f"{OUR_BLOCK}.attention.relative_position_bias",
    ),
    *fused_here(
        [f"{BLOCK}.attention.self.{part}" for part in ("query", "key", "value")],
        f"{OUR_BLOCK}.attention.qkv",
    ),
    *linear(f"{BLOCK}.attention.output.dense", f"{OUR_BLOCK}.attention.output"),
    *norm(f"{BLOCK}.layernorm_after", f"{OUR_BLOCK}.norm2"),
    *linear(f"{BLOCK}.intermediate.dense", f"{OUR_BLOCK}.mlp.layers.0"),
    *linear(f"{BLOCK}.output.dense", f"{OUR_BLOCK}.mlp.layers.1"),
    *kernel(f"{SWIN}.encoder.layers.{{}}.downsample.reduction", "backbone.merges.{}.reduction"),
    *norm(f"{SWIN}.encoder.layers.{{}}.downsample.norm", "backbone.merges.{}.norm"),
    *(
        rule
        for stage in range(4)
        for rule in norm(f"{SWIN}.hidden_states_norms.stage{stage + 1}", f"backbone.norms.{stage}")
    ),
    *linear(
        f"{PIXEL}.input_projections.{{}}.0",
        "pixel_decoder.input_projections.{}.linear",
        POINTWISE,
    ),
    *norm(f"{PIXEL}.input_projections.{{}}.1", "pixel_decoder.input_projections.{}.norm"),
    *tensor(f"{PIXEL}.level_embed", "pixel_decoder.level_embeddings"),
    *linear(
        f"{ENCODER}.self_attn.sampling_offsets",
        "pixel_decoder.layers.{}.attention.sampling_offsets",
    ),
    *linear(
        f"{ENCODER}.self_attn.attention_weights",
        "pixel_decoder.layers.{}.attention.attention_weights",
    ),
    *linear(f"{ENCODER}.self_attn.value_proj", "pixel_decoder.layers.{}.attention.value"),
    *linear(f"{ENCODER}.self_attn.output_proj", "pixel_decoder.layers.{}.attention.output"),
    *norm(f"{ENCODER}.self_attn_layer_norm", "pixel_decoder.layers.{}.norm1"),
    *linear(f"{ENCODER}.fc1", "pixel_decoder.layers.{}.mlp.layers.0"),
    *linear(f"{ENCODER}.fc2", "pixel_decoder.layers.{}.mlp.layers.1"),
    *norm(f"{ENCODER}.final_layer_norm", "pixel_decoder.layers.{}.norm2"),
    *kernel(f"{PIXEL}.adapter_1.0", "pixel_decoder.lateral.linear", POINTWISE),
    *norm(f"{PIXEL}.adapter_1.1", "pixel_decoder.lateral.norm"),
    *kernel(f"{PIXEL}.layer_1.0", "pixel_decoder.output", CONVOLUTION),
    *norm(f"{PIXEL}.layer_1.1", "pixel_decoder.output_norm"),
    *linear(f"{PIXEL}.mask_projection", "pixel_decoder.mask_features", POINTWISE),
    *fused_attention(f"{LAYER}.cross_attn", "decoder.layers.{}.cross_attention"),
    *linear(f"{LAYER}.cross_attn.out_proj", "decoder.layers.{}.cross_attention.output"),
    *norm(f"{LAYER}.cross_attn_layer_norm", "decoder.layers.{}.norm1"),
    *linear(f"{LAYER}.self_attn.q_proj", "decoder.layers.{}.self_attention.query"),
    *linear(f"{LAYER}.self_attn.k_proj", "decoder.layers.{}.self_attention.key"),
    *linear(f"{LAYER}.self_attn.v_proj", "decoder.layers.{}.self_attention.value"),
    *linear(f"{LAYER}.self_attn.out_proj", "decoder.layers.{}.self_attention.output"),
    *norm(f"{LAYER}.self_attn_layer_norm", "decoder.layers.{}.norm2"),
    *linear(f"{LAYER}.fc1", "decoder.layers.{}.mlp.layers.0"),
    *linear(f"{LAYER}.fc2", "decoder.layers.{}.mlp.layers.1"),
    *norm(f"{LAYER}.final_layer_norm", "decoder.layers.{}.norm3"),
    *norm(f"{TRANSFORMER}.decoder.layernorm", "decoder.heads.norm"),
    *tensor(f"{TRANSFORMER}.queries_features.weight", "decoder.queries"),
    *tensor(f"{TRANSFORMER}.queries_embedder.weight", "decoder.query_positions"),
    *tensor(f"{TRANSFORMER}.level_embed.weight", "decoder.level_embeddings"),
    *linear("class_predictor", "decoder.heads.class_head"),
    *linear(
        f"{TRANSFORMER}.decoder.mask_predictor.mask_embedder.{{}}.0",
        "decoder.heads.mask_head.layers.{}",
    ),
)

UNUSED = (
    r".*\.relative_position_index",  # computed
    r"model\.pixel_level_module\.encoder\.layernorm\.(weight|bias)",  # its result is never read
    r"criterion\.empty_weight",  # the loss's class weights
)

SPELLINGS = (  # the early conversions' names and those in transformers' memory, as on the hub
    (r"model\.pixel_level_module\.encoder\.(model|swin)\.", f"{SWIN}."),
    *(
        (rf"(.*)\.hidden_states_norms\.{stage}\.", rf"\1.hidden_states_norms.stage{stage + 1}.")
        for stage in range(4)
    ),
    (r"(.*)\.attention\.relative_position_bias\.", r"\1.attention.self."),
    (r"(.*)\.attention\.q_proj\.", r"\1.attention.self.query."),
    (r"(.*)\.attention\.k_proj\.", r"\1.attention.self.key."),
    (r"(.*)\.attention\.v_proj\.", r"\1.attention.self.value."),
    (r"(.*)\.attention\.o_proj\.", r"\1.attention.output.dense."),
    (rf"({re.escape(SWIN)}.*)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (rf"({re.escape(SWIN)}.*)\.mlp\.fc2\.", r"\1.output.dense."),
)


NO_OBJECT_WEIGHT = 0.1
REQUIRED = {  # fields whose other values mean another network
    "common_stride": 4,
    "pre_norm": False,
    "enforce_input_projection": False,
    "activation_function": "relu",
    "feature_strides": [4, 8, 16, 32],
}
REQUIRED_OF_SWIN = {
    "model_type": "swin",
    "patch_size": 4,
    "num_channels": 3,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "layer_norm_eps": 1e-5,
    "out_features": ["stage1", "stage2", "stage3", "stage4"],
}


def config_from_huggingface(
    values: Mapping[str, Any], labels: tuple[Label, ...], task: Task
) -> Mask2FormerConfig:
    """Our config for one of theirs.

    Raises:
        ValueError: a field is missing, or has a value that means another network; it is named.
    """
    swin = field(values, "backbone_config")
    check_fields(values, REQUIRED, "config.json")
    check_fields(swin, REQUIRED_OF_SWIN, "config.json: backbone_config")
    if field(values, "feature_size") != field(values, "hidden_dim"):
        raise ValueError(
            f"config.json: feature_size {values['feature_size']} and hidden_dim "
            f"{values['hidden_dim']} differ; only models where they are equal are supported"
        )
    where = "backbone_config"
    return Mask2FormerConfig(
        labels=labels,
        task=task,
        backbone=SwinConfig(
            embed_dim=field(swin, "embed_dim", where),
            depths=tuple(field(swin, "depths", where)),
            num_heads=tuple(field(swin, "num_heads", where)),
            window_size=field(swin, "window_size", where),
            mlp_ratio=swin.get("mlp_ratio", 4.0),
            drop_path_rate=swin.get("drop_path_rate", 0.3),
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=values["feature_size"],
            mask_dim=field(values, "mask_feature_size"),
            num_layers=field(values, "encoder_layers"),
            num_heads=field(values, "num_attention_heads"),
            ffn_dim=values.get("encoder_feedforward_dim", 1024),
        ),
        decoder=TransformerDecoderConfig(
            dim=values["hidden_dim"],
            num_layers=field(values, "decoder_layers") - 1,
            num_heads=values["num_attention_heads"],
            ffn_dim=field(values, "dim_feedforward"),
            num_queries=field(values, "num_queries"),
        ),
    )


def field(values: Mapping[str, Any], key: str, where: str = "config.json") -> Any:
    """A field that must be there."""
    if key not in values:
        raise ValueError(f"{where} lacks the field {key}; is it a Mask2Former's config.json?")
    return values[key]


def check_fields(values: Mapping[str, Any], required: Mapping[str, Any], where: str):
    """Refuses a field that is there with another value than the only one supported."""
    for key, value in required.items():
        if values.get(key, value) != value:
            raise ValueError(
                f"{where}: {key} is {values[key]!r}; only models with {value!r} are supported"
            )


def class_names(values: Mapping[str, Any]) -> list[str]:
    """The classes of a config, by index.

    Raises:
        ValueError: `id2label` is missing or doesn't number its classes from 0.
    """
    names = {int(key): str(name) for key, name in field(values, "id2label").items()}
    if sorted(names) != list(range(len(names))):
        raise ValueError("config.json: id2label doesn't number the classes 0, 1, 2, ...")
    return [names[k] for k in range(len(names))]


def config_to_huggingface(config: Mask2FormerConfig) -> dict[str, Any]:
    """The config.json with which transformers builds the same network.

    Raises:
        ValueError: their configuration can't express the architecture; the message says which part.
    """
    pixel, decoder, swin = config.pixel_decoder, config.decoder, config.backbone
    if pixel.num_heads != decoder.num_heads or pixel.num_points != 4:
        raise ValueError(
            "Hugging Face's configuration has one number of heads for both decoders and always 4 "
            f"points; this model has {pixel.num_heads} and {decoder.num_heads} heads and "
            f"{pixel.num_points} points"
        )
    names: Sequence[str] = [label.name for label in config.labels]
    return {
        "architectures": ["Mask2FormerForUniversalSegmentation"],
        "model_type": "mask2former",
        "backbone_config": {
            **REQUIRED_OF_SWIN,
            "embed_dim": swin.embed_dim,
            "depths": list(swin.depths),
            "num_heads": list(swin.num_heads),
            "window_size": swin.window_size,
            "mlp_ratio": swin.mlp_ratio,
            "drop_path_rate": swin.drop_path_rate,
            "image_size": 224 if swin.window_size == 7 else 384,
        },
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
        "dtype": "float32",
    }


def processor_from_huggingface(
    values: Mapping[str, Any], processor: ImageProcessor
) -> ImageProcessor:
    """`processor` with the input size, statistics and divisor of their preprocessor_config.json.

    Their square {"height", "width"} distorts images; its side becomes the shortest edge here.
    """
    size = values.get("size") or {}
    if not isinstance(size, Mapping):  # an early form: the shortest edge alone
        size = {"shortest_edge": size}
    sides = [size[key] for key in ("shortest_edge", "height", "width") if key in size]
    longest = size.get("longest_edge", values.get("max_size", values.get("_max_size")))

    def scaled(key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        stored = values.get(key)
        return tuple(round(255 * x, 3) for x in stored) if stored else default

    return dataclasses.replace(
        processor,
        shortest_edge=min(sides, default=processor.shortest_edge),
        longest_edge=longest,
        size_divisor=values.get("size_divisor", 32),
        mean=scaled("image_mean", processor.mean),
        std=scaled("image_std", processor.std),
    )


def processor_to_huggingface(processor: ImageProcessor) -> dict[str, Any]:
    """A preprocessor_config.json for transformers with the same size and statistics."""
    size = {"shortest_edge": processor.shortest_edge, "longest_edge": processor.longest_edge}
    return {
        "image_processor_type": "Mask2FormerImageProcessor",
        "do_resize": processor.shortest_edge is not None,
        "size": {key: value for key, value in size.items() if value is not None},
        "size_divisor": processor.size_divisor,
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [x / 255 for x in processor.mean],
        "image_std": [x / 255 for x in processor.std],
        "ignore_index": 255,
        "do_reduce_labels": False,
    }


def extra_tensors(config: Mask2FormerConfig) -> dict[str, np.ndarray]:
    """What transformers stores besides parameters of ours: the loss's weights, an unread norm."""
    width = config.backbone.dims[-1]
    weights = np.ones(config.num_classes + 1, np.float32)
    weights[-1] = NO_OBJECT_WEIGHT
    return {
        "criterion.empty_weight": weights,
        f"{SWIN}.swin.layernorm.weight": np.ones(width, np.float32),
        f"{SWIN}.swin.layernorm.bias": np.zeros(width, np.float32),
    }
