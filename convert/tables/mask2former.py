"""The authors' checkpoints: their names, and the architecture that the tensors imply."""

import re
from collections.abc import Mapping

from m2f_jax.config import (
    Mask2FormerConfig,
    PixelDecoderConfig,
    SwinConfig,
    Task,
    TransformerDecoderConfig,
)
from m2f_jax.labels import Label

from .rules import (
    CONVOLUTION,
    POINTWISE,
    Shape,
    fused_attention,
    kernel,
    linear,
    norm,
    patches,
    tensor,
)

PIXEL = "sem_seg_head.pixel_decoder"
ENCODER = f"{PIXEL}.transformer.encoder.layers.{{}}"
PREDICTOR = "sem_seg_head.predictor"
BLOCK = "backbone.layers.{}.blocks.{}"
OUR_BLOCK = "backbone.stages.{}.blocks.{}"

RULES = (  # theirs, ours; {} is a layer number
    *linear("backbone.patch_embed.proj", "backbone.patch_embedding.projection", patches(4)),
    *norm("backbone.patch_embed.norm", "backbone.patch_embedding.norm"),
    *norm(f"{BLOCK}.norm1", f"{OUR_BLOCK}.norm1"),
    *tensor(
        f"{BLOCK}.attn.relative_position_bias_table",
        f"{OUR_BLOCK}.attention.relative_position_bias",
    ),
    *linear(f"{BLOCK}.attn.qkv", f"{OUR_BLOCK}.attention.qkv"),
    *linear(f"{BLOCK}.attn.proj", f"{OUR_BLOCK}.attention.output"),
    *norm(f"{BLOCK}.norm2", f"{OUR_BLOCK}.norm2"),
    *linear(f"{BLOCK}.mlp.fc1", f"{OUR_BLOCK}.mlp.layers.0"),
    *linear(f"{BLOCK}.mlp.fc2", f"{OUR_BLOCK}.mlp.layers.1"),
    *kernel("backbone.layers.{}.downsample.reduction", "backbone.merges.{}.reduction"),
    *norm("backbone.layers.{}.downsample.norm", "backbone.merges.{}.norm"),
    *norm("backbone.norm{}", "backbone.norms.{}"),
    *linear(f"{PIXEL}.input_proj.{{}}.0", "pixel_decoder.input_projections.{}.linear", POINTWISE),
    *norm(f"{PIXEL}.input_proj.{{}}.1", "pixel_decoder.input_projections.{}.norm"),
    *tensor(f"{PIXEL}.transformer.level_embed", "pixel_decoder.level_embeddings"),
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
    *norm(f"{ENCODER}.norm1", "pixel_decoder.layers.{}.norm1"),
    *linear(f"{ENCODER}.linear1", "pixel_decoder.layers.{}.mlp.layers.0"),
    *linear(f"{ENCODER}.linear2", "pixel_decoder.layers.{}.mlp.layers.1"),
    *norm(f"{ENCODER}.norm2", "pixel_decoder.layers.{}.norm2"),
    *kernel(f"{PIXEL}.adapter_1", "pixel_decoder.lateral.linear", POINTWISE),
    *norm(f"{PIXEL}.adapter_1.norm", "pixel_decoder.lateral.norm"),
    *kernel(f"{PIXEL}.layer_1", "pixel_decoder.output", CONVOLUTION),
    *norm(f"{PIXEL}.layer_1.norm", "pixel_decoder.output_norm"),
    *linear(f"{PIXEL}.mask_features", "pixel_decoder.mask_features", POINTWISE),
    *fused_attention(
        f"{PREDICTOR}.transformer_cross_attention_layers.{{}}.multihead_attn",
        "decoder.layers.{}.cross_attention",
    ),
    *linear(
        f"{PREDICTOR}.transformer_cross_attention_layers.{{}}.multihead_attn.out_proj",
        "decoder.layers.{}.cross_attention.output",
    ),
    *norm(f"{PREDICTOR}.transformer_cross_attention_layers.{{}}.norm", "decoder.layers.{}.norm1"),
    *fused_attention(
        f"{PREDICTOR}.transformer_self_attention_layers.{{}}.self_attn",
        "decoder.layers.{}.self_attention",
    ),
    *linear(
        f"{PREDICTOR}.transformer_self_attention_layers.{{}}.self_attn.out_proj",
        "decoder.layers.{}.self_attention.output",
    ),
    *norm(f"{PREDICTOR}.transformer_self_attention_layers.{{}}.norm", "decoder.layers.{}.norm2"),
    *linear(f"{PREDICTOR}.transformer_ffn_layers.{{}}.linear1", "decoder.layers.{}.mlp.layers.0"),
    *linear(f"{PREDICTOR}.transformer_ffn_layers.{{}}.linear2", "decoder.layers.{}.mlp.layers.1"),
    *norm(f"{PREDICTOR}.transformer_ffn_layers.{{}}.norm", "decoder.layers.{}.norm3"),
    *norm(f"{PREDICTOR}.decoder_norm", "decoder.heads.norm"),
    *tensor(f"{PREDICTOR}.query_feat.weight", "decoder.queries"),
    *tensor(f"{PREDICTOR}.query_embed.weight", "decoder.query_positions"),
    *tensor(f"{PREDICTOR}.level_embed.weight", "decoder.level_embeddings"),
    *linear(f"{PREDICTOR}.class_embed", "decoder.heads.class_head"),
    *linear(f"{PREDICTOR}.mask_embed.layers.{{}}", "decoder.heads.mask_head.layers.{}"),
)

UNUSED = (
    r"backbone\.layers\.\d+\.blocks\.\d+\.attn\.relative_position_index",  # computed
    r"criterion\.empty_weight",  # the loss's class weights
)

SPELLINGS = (  # other names of the same tensors
    (r"module\.", ""),  # of a DistributedDataParallel
    (r"sem_seg_head\.predictor\.static_query\.", f"{PREDICTOR}.query_feat."),
    (  # MaskFormer's, and what the authors' code makes of a file that states no version
        r"sem_seg_head\.(pixel_decoder\.)*(?=(input_proj|transformer|adapter_1|layer_1|mask_features)\b)",
        f"{PIXEL}.",
    ),
)


def count_classes(shapes: Mapping[str, Shape]) -> int:
    """K, without "no object"; a ValueError as of `infer_config`."""
    return _shape(shapes, f"{PREDICTOR}.class_embed.weight", 2)[0] - 1


def count_queries(shapes: Mapping[str, Shape]) -> int:
    """The number of queries; a ValueError as of `infer_config`."""
    return _shape(shapes, f"{PREDICTOR}.query_feat.weight", 2)[0]


def infer_config(
    shapes: Mapping[str, Shape], labels: tuple[Label, ...], task: Task, num_heads: int = 8
) -> Mask2FormerConfig:
    """The architecture behind a checkpoint's tensors.

    Shapes don't tell the heads of the pixel decoder and of the Transformer decoder: `num_heads` is
    8 in every published model.

    Raises:
        ValueError: the tensors aren't those of a Mask2Former on Swin; the message says which lacks.
    """

    def count(prefix: str) -> int:
        return len({m[1] for name in shapes if (m := re.match(rf"{prefix}\.(\d+)\.", name))})

    tables = [
        _shape(shapes, f"backbone.layers.{stage}.blocks.0.attn.relative_position_bias_table", 2)
        for stage in range(4)
    ]
    embed_dim = _shape(shapes, "backbone.patch_embed.proj.weight", 4)[0]
    mlp_dim = _shape(shapes, "backbone.layers.0.blocks.0.mlp.fc1.weight", 2)[0]
    weights, dim = _shape(shapes, f"{ENCODER.format(0)}.self_attn.attention_weights.weight", 2)
    if num_heads < 1 or dim % num_heads or weights % (3 * num_heads):
        raise ValueError(
            f"num_heads {num_heads} doesn't divide the decoders' width of {dim} and their "
            f"{weights // 3} attention weights per level"
        )
    return Mask2FormerConfig(
        labels=labels,
        task=task,
        backbone=SwinConfig(
            embed_dim=embed_dim,
            depths=tuple(count(rf"backbone\.layers\.{stage}\.blocks") for stage in range(4)),
            num_heads=tuple(heads for _, heads in tables),
            window_size=(round(tables[0][0] ** 0.5) + 1) // 2,
            mlp_ratio=mlp_dim / embed_dim,
        ),
        pixel_decoder=PixelDecoderConfig(
            dim=dim,
            mask_dim=_shape(shapes, f"{PIXEL}.mask_features.weight", 4)[0],
            num_layers=count(rf"{PIXEL}\.transformer\.encoder\.layers"),
            num_heads=num_heads,
            num_points=weights // (3 * num_heads),
            ffn_dim=_shape(shapes, f"{ENCODER.format(0)}.linear1.weight", 2)[0],
        ),
        decoder=TransformerDecoderConfig(
            dim=dim,
            num_layers=count(rf"{PREDICTOR}\.transformer_ffn_layers"),
            num_heads=num_heads,
            ffn_dim=_shape(shapes, f"{PREDICTOR}.transformer_ffn_layers.0.linear1.weight", 2)[0],
            num_queries=count_queries(shapes),
        ),
    )


def _shape(shapes: Mapping[str, Shape], name: str, ndim: int) -> Shape:
    """The shape of a tensor that every Mask2Former on Swin has."""
    shape = shapes.get(name)
    if shape is None or len(shape) != ndim or 0 in shape:
        problem = "is missing" if shape is None else f"has the shape {list(shape)}"
        raise ValueError(
            f"{name} {problem}, unlike in the authors' Mask2Former on Swin (a ResNet backbone, "
            "another pixel decoder, MaskFormer or a backbone alone isn't supported)"
        )
    return shape
