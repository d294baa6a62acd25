"""MaskFormer's Transformer decoder, by the authors and by Hugging Face."""

from m2f_jax.config import MaskFormerDecoderConfig

from ..origins import AuthorsPart, HuggingFacePart, PartShapes, PartTables
from ..rules import Table, fused_attention, linear, norm, tensor

AUTHORS_LAYER = "transformer.decoder.layers.{}"
MODULE = "model.transformer_module"  # at Hugging Face, but for the heads
HUGGING_FACE_LAYER = f"{MODULE}.decoder.layers.{{}}"
PROJECTIONS = {"q_proj": "query", "k_proj": "key", "v_proj": "value", "out_proj": "output"}

AUTHORS_RULES = (  # theirs, ours; {} is a layer number
    *tensor("query_embed.weight", "query_positions"),
    *fused_attention(f"{AUTHORS_LAYER}.self_attn", "layers.{}.self_attention"),
    *linear(f"{AUTHORS_LAYER}.self_attn.out_proj", "layers.{}.self_attention.output"),
    *norm(f"{AUTHORS_LAYER}.norm1", "layers.{}.norm1"),
    *fused_attention(f"{AUTHORS_LAYER}.multihead_attn", "layers.{}.cross_attention"),
    *linear(f"{AUTHORS_LAYER}.multihead_attn.out_proj", "layers.{}.cross_attention.output"),
    *norm(f"{AUTHORS_LAYER}.norm2", "layers.{}.norm2"),
    *linear(f"{AUTHORS_LAYER}.linear1", "layers.{}.mlp.layers.0"),
    *linear(f"{AUTHORS_LAYER}.linear2", "layers.{}.mlp.layers.1"),
    *norm(f"{AUTHORS_LAYER}.norm3", "layers.{}.norm3"),
    *norm("transformer.decoder.norm", "heads.norm"),
    *linear("class_embed", "heads.class_head"),
    *linear("mask_embed.layers.{}", "heads.mask_head.layers.{}"),
)

HUGGING_FACE_RULES = (
    *tensor(f"{MODULE}.queries_embedder.weight", "query_positions"),
    *(
        rule
        for attention, ours in (
            ("self_attn", "self_attention"),
            ("encoder_attn", "cross_attention"),
        )
        for theirs, projection in PROJECTIONS.items()
        for rule in linear(
            f"{HUGGING_FACE_LAYER}.{attention}.{theirs}", f"layers.{{}}.{ours}.{projection}"
        )
    ),
    *norm(f"{HUGGING_FACE_LAYER}.self_attn_layer_norm", "layers.{}.norm1"),
    *norm(f"{HUGGING_FACE_LAYER}.encoder_attn_layer_norm", "layers.{}.norm2"),
    *linear(f"{HUGGING_FACE_LAYER}.fc1", "layers.{}.mlp.layers.0"),
    *linear(f"{HUGGING_FACE_LAYER}.fc2", "layers.{}.mlp.layers.1"),
    *norm(f"{HUGGING_FACE_LAYER}.final_layer_norm", "layers.{}.norm3"),
    *norm(f"{MODULE}.decoder.layernorm", "heads.norm"),
    *linear("class_predictor", "heads.class_head"),
    *linear("mask_embedder.{}.0", "heads.mask_head.layers.{}"),
)

# Names in transformers' memory, as in some files on the hub.
HUGGING_FACE_SPELLINGS = (
    (r"(model\.transformer_module\.decoder\..*)\.o_proj\.", r"\1.out_proj."),
    (r"(model\.transformer_module\.decoder\..*)\.mlp\.(?=fc[12]\.)", r"\1."),
)


def infer(tensors: PartShapes, num_heads: int) -> MaskFormerDecoderConfig:
    """Returns the config behind a Transformer decoder's shapes.

    Raises:
        ValueError: a tensor whose shape is needed is missing, or the width isn't a multiple of
            `num_heads`.
    """
    ffn_dim, dim = tensors.get(f"{AUTHORS_LAYER.format(0)}.linear1.weight", 2)
    return MaskFormerDecoderConfig(
        dim=dim,
        num_layers=tensors.count("transformer.decoder.layers"),
        num_heads=num_heads,
        ffn_dim=ffn_dim,
        num_queries=tensors.get("query_embed.weight", 2)[0],
    )


TABLES = PartTables(
    authors=AuthorsPart(Table(AUTHORS_RULES), mark="transformer.decoder.norm.weight", infer=infer),
    huggingface=HuggingFacePart(Table(HUGGING_FACE_RULES, spellings=HUGGING_FACE_SPELLINGS)),
)
