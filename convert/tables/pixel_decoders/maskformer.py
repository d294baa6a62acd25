"""MaskFormer's pixel decoder, by the authors and by Hugging Face."""

from m2f_jax.config import MaskFormerPixelDecoderConfig

from ..origins import AuthorsPart, HuggingFacePart, PartShapes, PartTables
from ..rules import CONVOLUTION, POINTWISE, Rule, Table, fused_attention, kernel, linear, norm

AUTHORS_LAYER = "transformer.encoder.layers.{}"
STEPS = 3  # of the FPN, from coarse to fine


def conv_norm(theirs: str, their_norm: str, ours: str) -> tuple[Rule, ...]:
    """Returns the rules of a convolution without bias and its norm."""
    return (*kernel(theirs, f"{ours}.conv", CONVOLUTION), *norm(their_norm, f"{ours}.norm"))


AUTHORS_RULES = (  # theirs, ours; {} is a layer number
    *linear("input_proj", "input_projection", POINTWISE),
    *fused_attention(f"{AUTHORS_LAYER}.self_attn", "layers.{}.attention"),
    *linear(f"{AUTHORS_LAYER}.self_attn.out_proj", "layers.{}.attention.output"),
    *norm(f"{AUTHORS_LAYER}.norm1", "layers.{}.norm1"),
    *linear(f"{AUTHORS_LAYER}.linear1", "layers.{}.mlp.layers.0"),
    *linear(f"{AUTHORS_LAYER}.linear2", "layers.{}.mlp.layers.1"),
    *norm(f"{AUTHORS_LAYER}.norm2", "layers.{}.norm2"),
    *conv_norm("layer_4", "layer_4.norm", "fpn.top"),
    *(
        rule
        for i in range(STEPS)
        for theirs, ours in (("adapter", "lateral"), ("layer", "output"))
        for rule in conv_norm(
            f"{theirs}_{STEPS - i}", f"{theirs}_{STEPS - i}.norm", f"fpn.steps.{i}.{ours}"
        )
    ),
    *linear("mask_features", "fpn.mask_features", CONVOLUTION),
)

HUGGING_FACE_RULES = (
    *linear("/model.transformer_module.input_projection", "input_projection", POINTWISE),
    *conv_norm("fpn.stem.0", "fpn.stem.1", "fpn.top"),
    *(
        rule
        for theirs, ours in (("proj", "lateral"), ("block", "output"))
        for rule in conv_norm(
            f"fpn.layers.{{}}.{theirs}.0", f"fpn.layers.{{}}.{theirs}.1", f"fpn.steps.{{}}.{ours}"
        )
    ),
    *linear("mask_projection", "fpn.mask_features", CONVOLUTION),
)


def infer(tensors: PartShapes, num_heads: int) -> MaskFormerPixelDecoderConfig:
    """Returns the config behind a pixel decoder's shapes.

    Raises:
        ValueError: a tensor whose shape is needed is missing, or the width isn't a multiple of
            `num_heads`.
    """
    sizes = {
        "dim": tensors.get("input_proj.weight", 4)[0],
        "fpn_dim": tensors.get("layer_1.weight", 4)[0],
        "mask_dim": tensors.get("mask_features.weight", 4)[0],
    }
    if layers := tensors.count("transformer.encoder.layers"):
        sizes |= {
            "encoder_layers": layers,
            "num_heads": num_heads,
            "ffn_dim": tensors.get(f"{AUTHORS_LAYER.format(0)}.linear1.weight", 2)[0],
        }
    return MaskFormerPixelDecoderConfig(**sizes)


TABLES = PartTables(
    authors=AuthorsPart(
        # Without encoder layers, the authors' projection is a part of the Transformer decoder.
        Table(
            AUTHORS_RULES,
            spellings=((r"/sem_seg_head\.predictor\.input_proj\.", "input_proj."),),
        ),
        mark="adapter_2.weight",
        infer=infer,
    ),
    huggingface=HuggingFacePart(Table(HUGGING_FACE_RULES)),
)
