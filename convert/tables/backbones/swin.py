"""Swin Transformers, by the names of the Swin authors, which Mask2Former kept, and Hugging Face."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from m2f_jax.config import MaskFormerConfig, SwinConfig

from ...files.formats import StoredTensor
from ..huggingface.json_fields import about, check_fields, field
from ..origins import AuthorsPart, HuggingFaceBackbone, HuggingFacePart, PartShapes, PartTables
from ..rules import Table, fused_here, kernel, linear, norm, patches, tensor

OUR_BLOCK = "stages.{}.blocks.{}"
AUTHORS_BLOCK = "layers.{}.blocks.{}"
HUGGING_FACE_BLOCK = "encoder.layers.{}.blocks.{}"
OUTPUT_NORMS = "norms."  # Mask2Former's own: a Swin trained on ImageNet has none
REQUIRED = {  # fields of Hugging Face's whose other values mean another network
    "model_type": "swin",
    "patch_size": 4,
    "num_channels": 3,
    "qkv_bias": True,
    "hidden_act": "gelu",
    "use_absolute_embeddings": False,
    "layer_norm_eps": 1e-5,
}
STAGES = {"out_features": ["stage1", "stage2", "stage3", "stage4"]}

AUTHORS_RULES = (  # theirs, ours; {} is a layer number
    *linear("patch_embed.proj", "patch_embedding.projection", patches(4)),
    *norm("patch_embed.norm", "patch_embedding.norm"),
    *norm(f"{AUTHORS_BLOCK}.norm1", f"{OUR_BLOCK}.norm1"),
    *tensor(
        f"{AUTHORS_BLOCK}.attn.relative_position_bias_table",
        f"{OUR_BLOCK}.attention.relative_position_bias",
    ),
    *linear(f"{AUTHORS_BLOCK}.attn.qkv", f"{OUR_BLOCK}.attention.qkv"),
    *linear(f"{AUTHORS_BLOCK}.attn.proj", f"{OUR_BLOCK}.attention.output"),
    *norm(f"{AUTHORS_BLOCK}.norm2", f"{OUR_BLOCK}.norm2"),
    *linear(f"{AUTHORS_BLOCK}.mlp.fc1", f"{OUR_BLOCK}.mlp.layers.0"),
    *linear(f"{AUTHORS_BLOCK}.mlp.fc2", f"{OUR_BLOCK}.mlp.layers.1"),
    *kernel("layers.{}.downsample.reduction", "merges.{}.reduction"),
    *norm("layers.{}.downsample.norm", "merges.{}.norm"),
    *norm("norm{}", "norms.{}"),
)

HUGGING_FACE_RULES = (
    *linear("embeddings.patch_embeddings.projection", "patch_embedding.projection", patches(4)),
    *norm("embeddings.norm", "patch_embedding.norm"),
    *norm(f"{HUGGING_FACE_BLOCK}.layernorm_before", f"{OUR_BLOCK}.norm1"),
    *tensor(
        f"{HUGGING_FACE_BLOCK}.attention.self.relative_position_bias_table",
        f"{OUR_BLOCK}.attention.relative_position_bias",
    ),
    *fused_here(
        [f"{HUGGING_FACE_BLOCK}.attention.self.{part}" for part in ("query", "key", "value")],
        f"{OUR_BLOCK}.attention.qkv",
    ),
    *linear(f"{HUGGING_FACE_BLOCK}.attention.output.dense", f"{OUR_BLOCK}.attention.output"),
    *norm(f"{HUGGING_FACE_BLOCK}.layernorm_after", f"{OUR_BLOCK}.norm2"),
    *linear(f"{HUGGING_FACE_BLOCK}.intermediate.dense", f"{OUR_BLOCK}.mlp.layers.0"),
    *linear(f"{HUGGING_FACE_BLOCK}.output.dense", f"{OUR_BLOCK}.mlp.layers.1"),
    *kernel("encoder.layers.{}.downsample.reduction", "merges.{}.reduction"),
    *norm("encoder.layers.{}.downsample.norm", "merges.{}.norm"),
    *norm("hidden_states_norms.stage1", "norms.0"),
    *norm("hidden_states_norms.stage2", "norms.1"),
    *norm("hidden_states_norms.stage3", "norms.2"),
    *norm("hidden_states_norms.stage4", "norms.3"),
)

# Names of transformers' live modules, which some files on the hub have.
HUGGING_FACE_SPELLINGS = (
    (r"(.*)\.attention\.relative_position_bias\.", r"\1.attention.self."),
    (r"(.*)\.attention\.q_proj\.", r"\1.attention.self.query."),
    (r"(.*)\.attention\.k_proj\.", r"\1.attention.self.key."),
    (r"(.*)\.attention\.v_proj\.", r"\1.attention.self.value."),
    (r"(.*)\.attention\.o_proj\.", r"\1.attention.output.dense."),
    (r"(.*)\.mlp\.fc1\.", r"\1.intermediate.dense."),
    (r"(.*)\.mlp\.fc2\.", r"\1.output.dense."),
)

# Names in transformers' MaskFormer, which has a Swin of its own.
IN_MASKFORMER = (
    (r"swin\.", "model."),
    (r"(?=(embeddings|encoder)\.)", "model."),
    *((rf"hidden_states_norms\.stage{i + 1}\.", f"hidden_states_norms.{i}.") for i in range(4)),
)


def infer(tensors: PartShapes, _num_heads: int) -> SwinConfig:
    """Returns the config behind a backbone's shapes.

    Raises:
        ValueError: a tensor whose shape is needed is missing.
    """
    tables = [
        tensors.get(f"layers.{stage}.blocks.0.attn.relative_position_bias_table", 2)
        for stage in range(4)
    ]
    embed_dim = tensors.get("patch_embed.proj.weight", 4)[0]
    mlp_dim = tensors.get("layers.0.blocks.0.mlp.fc1.weight", 2)[0]
    return SwinConfig(
        embed_dim=embed_dim,
        depths=tuple(tensors.count(f"layers.{stage}.blocks") for stage in range(4)),
        num_heads=tuple(heads for _, heads in tables),
        window_size=window_size(tables[0]),
        mlp_ratio=mlp_dim / embed_dim,
    )


def window_size(table: tuple[int, ...]) -> int:
    """Returns the side of the windows for which a table of relative positions has this shape."""
    return (round(table[0] ** 0.5) + 1) // 2


def read(values: Mapping[str, Any], where: str) -> SwinConfig:
    """Returns our config for a `backbone_config` of Hugging Face's.

    Raises:
        ValueError: a field is missing, of a wrong type, or has a value that means another network.
    """
    check_fields(values, REQUIRED | STAGES, where)
    sizes = {
        "embed_dim": field(values, "embed_dim", int, where),
        "depths": field(values, "depths", tuple[int, ...], where),
        "num_heads": field(values, "num_heads", tuple[int, ...], where),
        "window_size": field(values, "window_size", int, where),
        "mlp_ratio": field(values, "mlp_ratio", float, where, 4.0),
        "drop_path_rate": field(values, "drop_path_rate", float, where, 0.3),
    }
    with about(where):
        return SwinConfig(**sizes)


def write(config: SwinConfig) -> dict[str, Any]:
    """Returns the `backbone_config` with which transformers builds the same backbone."""
    return {
        **REQUIRED,
        **STAGES,
        "embed_dim": config.embed_dim,
        "depths": list(config.depths),
        "num_heads": list(config.num_heads),
        "window_size": config.window_size,
        "mlp_ratio": config.mlp_ratio,
        "drop_path_rate": config.drop_path_rate,
        "image_size": 224 if config.window_size == 7 else 384,
    }


def unread_norm(config: SwinConfig) -> dict[str, StoredTensor]:
    """Returns the norm that transformers stores, but whose result it never uses."""
    width = 8 * config.embed_dim  # of the last stage
    return {
        "swin.layernorm.weight": StoredTensor.of(np.ones(width, np.float32)),
        "swin.layernorm.bias": StoredTensor.of(np.zeros(width, np.float32)),
    }


TABLES = PartTables(
    authors=AuthorsPart(
        Table(
            AUTHORS_RULES,
            unused=(r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_index",),  # computed
        ),
        mark="patch_embed.proj.weight",
        infer=infer,
    ),
    huggingface=HuggingFacePart(
        Table(
            HUGGING_FACE_RULES,
            unused=(
                r".*\.relative_position_index",  # computed
                r"layernorm\.(weight|bias)",  # its result is never read
            ),
            spellings=(
                (r"(model|swin)\.", ""),  # of the early conversions
                (r"hidden_states_norms\.0\.", "hidden_states_norms.stage1."),
                (r"hidden_states_norms\.1\.", "hidden_states_norms.stage2."),
                (r"hidden_states_norms\.2\.", "hidden_states_norms.stage3."),
                (r"hidden_states_norms\.3\.", "hidden_states_norms.stage4."),
                *HUGGING_FACE_SPELLINGS,
            ),
        ),
        HuggingFaceBackbone("swin", read, write),
        unread_norm,
        spellings_in={MaskFormerConfig: IN_MASKFORMER},
    ),
)
