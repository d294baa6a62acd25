"""The `backbone_config` of a model's config.json, in both directions."""

from collections.abc import Mapping
from typing import Any

from m2f_jax.config import ModelConfig

from ..origins import HuggingFaceBackbone
from ..parts import BACKBONES, find_part


def read_backbone(values: Any, where: str) -> Any:
    """Returns our config for a `backbone_config`; one without `model_type` is read as a Swin's.

    Raises:
        ValueError: it is missing or of an unknown kind, or its kind refuses it.
    """
    if not isinstance(values, Mapping):
        problem = "is missing" if values is None else f"is {values!r:.80}"
        raise ValueError(f"{where} {problem}; only backbones described there are supported")
    known = {backbone.model_type: backbone for backbone in backbones()}
    kind = values.get("model_type", next(iter(known)))
    if not isinstance(kind, str) or kind not in known:
        names = " or ".join(map(repr, known))
        raise ValueError(
            f"{where}: model_type is {kind!r:.80}; only models with {names} are supported"
        )
    return known[kind].read(values, where)


def backbones() -> list[HuggingFaceBackbone]:
    """Returns the kinds of backbone that a `backbone_config` can describe, the default first."""
    parts = [tables.huggingface for tables in BACKBONES.values() if tables.huggingface is not None]
    return [part.backbone for part in parts if part.backbone is not None]


def write_backbone(config: ModelConfig) -> dict[str, Any]:
    """Returns a model's `backbone_config`.

    Raises:
        ValueError: transformers has no such backbone.
    """
    backbone: HuggingFaceBackbone | None = find_part(config, "backbone", "huggingface").backbone
    if backbone is None:
        kind = type(config.backbone).__name__
        raise ValueError(f"Hugging Face's configuration has no fields for a backbone of {kind}")
    return backbone.write(config.backbone)
