"""The masked-attention Transformer decoder, by the authors and by Hugging Face."""

from m2f_jax.config import TransformerDecoderConfig

from ..origins import AuthorsPart, HuggingFacePart, PartShapes, PartTables
from ..rules import Table, fused_attention, linear, norm, tensor

CROSS = "transformer_cross_attention_layers.{}"
SELF = "transformer_self_attention_layers.{}"
FFN = "transformer_ffn_layers.{}"
MODULE = "model.transformer_module"  # at Hugging Face, but for the class head
LAYER = f"{MODULE}.decoder.layers.{{}}"

AUTHORS_RULES = (  # theirs, ours; {} is a layer number
    *fused_attention(f"{CROSS}.multihead_attn", "layers.{}.cross_attention"),
    *linear(f"{CROSS}.multihead_attn.out_proj", "layers.{}.cross_attention.output"),
    *norm(f"{CROSS}.norm", "layers.{}.norm1"),
    *fused_attention(f"{SELF}.self_attn", "layers.{}.self_attention"),
    *linear(f"{SELF}.self_attn.out_proj", "layers.{}.self_attention.output"),
    *norm(f"{SELF}.norm", "layers.{}.norm2"),
    *linear(f"{FFN}.linear1", "layers.{}.mlp.layers.0"),
    *linear(f"{FFN}.linear2", "layers.{}.mlp.layers.1"),
    *norm(f"{FFN}.norm", "layers.{}.norm3"),
    *norm("decoder_norm", "heads.norm"),
    *tensor("query_feat.weight", "queries"),
    *tensor("query_embed.weight", "query_positions"),
    *tensor("level_embed.weight", "level_embeddings"),
    *linear("class_embed", "heads.class_head"),
    *linear("mask_embed.layers.{}", "heads.mask_head.layers.{}"),
)

HUGGING_FACE_RULES = (
    *fused_attention(f"{LAYER}.cross_attn", "layers.{}.cross_attention"),
    *linear(f"{LAYER}.cross_attn.out_proj", "layers.{}.cross_attention.output"),
    *norm(f"{LAYER}.cross_attn_layer_norm", "layers.{}.norm1"),
    *linear(f"{LAYER}.self_attn.q_proj", "layers.{}.self_attention.query"),
    *linear(f"{LAYER}.self_attn.k_proj", "layers.{}.self_attention.key"),
    *linear(f"{LAYER}.self_attn.v_proj", "layers.{}.self_attention.value"),
    *linear(f"{LAYER}.self_attn.out_proj", "layers.{}.self_attention.output"),
    *norm(f"{LAYER}.self_attn_layer_norm", "layers.{}.norm2"),
    *linear(f"{LAYER}.fc1", "layers.{}.mlp.layers.0"),
    *linear(f"{LAYER}.fc2", "layers.{}.mlp.layers.1"),
    *norm(f"{LAYER}.final_layer_norm", "layers.{}.norm3"),
    *norm(f"{MODULE}.decoder.layernorm", "heads.norm"),
    *tensor(f"{MODULE}.queries_features.weight", "queries"),
    *tensor(f"{MODULE}.queries_embedder.weight", "query_positions"),
    *tensor(f"{MODULE}.level_embed.weight", "level_embeddings"),
    *linear("class_predictor", "heads.class_head"),
    *linear(f"{MODULE}.decoder.mask_predictor.mask_embedder.{{}}.0", "heads.mask_head.layers.{}"),
)


def infer(tensors: PartShapes, num_heads: int) -> TransformerDecoderConfig:
    """Returns the config behind a Transformer decoder's shapes.

    Raises:
        ValueError: a tensor whose shape is needed is missing.
    """
    ffn_dim, dim = tensors.get(f"{FFN.format(0)}.linear1.weight", 2)
    return TransformerDecoderConfig(
        dim=dim,
        num_layers=tensors.count("transformer_ffn_layers"),
        num_heads=num_heads,
        ffn_dim=ffn_dim,
        num_queries=tensors.get("query_feat.weight", 2)[0],
    )


TABLES = PartTables(
    authors=AuthorsPart(
        Table(AUTHORS_RULES, spellings=((r"static_query\.", "query_feat."),)),
        mark="query_feat.weight",
        infer=infer,
    ),
    huggingface=HuggingFacePart(Table(HUGGING_FACE_RULES)),
)
