"""The pixel decoder of multi-scale deformable attention, by the authors and by Hugging Face."""

from m2f_jax.config import PixelDecoderConfig

from ..origins import AuthorsPart, HuggingFacePart, PartShapes, PartTables
from ..rules import CONVOLUTION, POINTWISE, Table, kernel, linear, norm, tensor

AUTHORS_LAYER = "transformer.encoder.layers.{}"
HUGGING_FACE_LAYER = "encoder.layers.{}"

AUTHORS_RULES = (  # theirs, ours; {} is a layer number
    *linear("input_proj.{}.0", "input_projections.{}.linear", POINTWISE),
    *norm("input_proj.{}.1", "input_projections.{}.norm"),
    *tensor("transformer.level_embed", "level_embeddings"),
    *linear(f"{AUTHORS_LAYER}.self_attn.sampling_offsets", "layers.{}.attention.sampling_offsets"),
    *linear(
        f"{AUTHORS_LAYER}.self_attn.attention_weights", "layers.{}.attention.attention_weights"
    ),
    *linear(f"{AUTHORS_LAYER}.self_attn.value_proj", "layers.{}.attention.value"),
    *linear(f"{AUTHORS_LAYER}.self_attn.output_proj", "layers.{}.attention.output"),
    *norm(f"{AUTHORS_LAYER}.norm1", "layers.{}.norm1"),
    *linear(f"{AUTHORS_LAYER}.linear1", "layers.{}.mlp.layers.0"),
    *linear(f"{AUTHORS_LAYER}.linear2", "layers.{}.mlp.layers.1"),
    *norm(f"{AUTHORS_LAYER}.norm2", "layers.{}.norm2"),
    *kernel("adapter_1", "lateral.linear", POINTWISE),
    *norm("adapter_1.norm", "lateral.norm"),
    *kernel("layer_1", "output", CONVOLUTION),
    *norm("layer_1.norm", "output_norm"),
    *linear("mask_features", "mask_features", POINTWISE),
)

HUGGING_FACE_RULES = (
    *linear("input_projections.{}.0", "input_projections.{}.linear", POINTWISE),
    *norm("input_projections.{}.1", "input_projections.{}.norm"),
    *tensor("level_embed", "level_embeddings"),
    *linear(
        f"{HUGGING_FACE_LAYER}.self_attn.sampling_offsets", "layers.{}.attention.sampling_offsets"
    ),
    *linear(
        f"{HUGGING_FACE_LAYER}.self_attn.attention_weights",
        "layers.{}.attention.attention_weights",
    ),
    *linear(f"{HUGGING_FACE_LAYER}.self_attn.value_proj", "layers.{}.attention.value"),
    *linear(f"{HUGGING_FACE_LAYER}.self_attn.output_proj", "layers.{}.attention.output"),
    *norm(f"{HUGGING_FACE_LAYER}.self_attn_layer_norm", "layers.{}.norm1"),
    *linear(f"{HUGGING_FACE_LAYER}.fc1", "layers.{}.mlp.layers.0"),
    *linear(f"{HUGGING_FACE_LAYER}.fc2", "layers.{}.mlp.layers.1"),
    *norm(f"{HUGGING_FACE_LAYER}.final_layer_norm", "layers.{}.norm2"),
    *kernel("adapter_1.0", "lateral.linear", POINTWISE),
    *norm("adapter_1.1", "lateral.norm"),
    *kernel("layer_1.0", "output", CONVOLUTION),
    *norm("layer_1.1", "output_norm"),
    *linear("mask_projection", "mask_features", POINTWISE),
)


def infer(tensors: PartShapes, num_heads: int) -> PixelDecoderConfig:
    """Returns the config behind a pixel decoder's shapes.

    Raises:
        ValueError: a tensor whose shape is needed is missing, or the widths aren't multiples of
            `num_heads`.
    """
    first = AUTHORS_LAYER.format(0)
    weights, dim = tensors.get(f"{first}.self_attn.attention_weights.weight", 2)
    if num_heads < 1 or dim % num_heads or weights % (3 * num_heads):
        raise ValueError(
            f"num_heads {num_heads} doesn't divide the decoders' width of {dim} and their "
            f"{weights // 3} attention weights per level"
        )
    return PixelDecoderConfig(
        dim=dim,
        mask_dim=tensors.get("mask_features.weight", 4)[0],
        num_layers=tensors.count("transformer.encoder.layers"),
        num_heads=num_heads,
        num_points=weights // (3 * num_heads),
        ffn_dim=tensors.get(f"{first}.linear1.weight", 2)[0],
    )


TABLES = PartTables(
    authors=AuthorsPart(Table(AUTHORS_RULES), mark="transformer.level_embed", infer=infer),
    huggingface=HuggingFacePart(Table(HUGGING_FACE_RULES)),
)
