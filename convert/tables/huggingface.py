"""Hugging Face's checkpoints: their tensors' names."""

import re

import numpy as np

from m2f_jax.config import Mask2FormerConfig

from ..files.formats import StoredTensor
from .huggingface_config import NO_OBJECT_WEIGHT
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
    (r"module\.", ""),  # of a DistributedDataParallel
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


def extra_tensors(config: Mask2FormerConfig) -> dict[str, StoredTensor]:
    """What transformers stores besides parameters of ours: the loss's weights, an unread norm."""
    width = config.backbone.channels[-1]
    weights = np.ones(config.num_classes + 1, np.float32)
    weights[-1] = NO_OBJECT_WEIGHT
    return {
        "criterion.empty_weight": StoredTensor.of(weights),
        f"{SWIN}.swin.layernorm.weight": StoredTensor.of(np.ones(width, np.float32)),
        f"{SWIN}.swin.layernorm.bias": StoredTensor.of(np.zeros(width, np.float32)),
    }
