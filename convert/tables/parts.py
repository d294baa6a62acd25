"""The tables of every kind of part, by the class of its config.

A new backbone brings its tables and one line: `BACKBONES[MyConfig] = PartTables(...)`.
"""

from collections.abc import Mapping
from typing import Any, Literal

from m2f_jax.config import (
    MaskFormerDecoderConfig,
    MaskFormerPixelDecoderConfig,
    ModelConfig,
    PixelDecoderConfig,
    ResNetConfig,
    SwinConfig,
    TransformerDecoderConfig,
)

from .backbones import resnet, swin
from .origins import PartTables
from .pixel_decoders import deformable
from .pixel_decoders import maskformer as maskformer_pixel_decoder
from .rules import Table, joined, placed
from .transformer_decoders import masked_attention
from .transformer_decoders import maskformer as maskformer_decoder

BACKBONES: dict[type, PartTables] = {
    SwinConfig: swin.TABLES,
    ResNetConfig: resnet.TABLES,
}
PIXEL_DECODERS: dict[type, PartTables] = {
    PixelDecoderConfig: deformable.TABLES,
    MaskFormerPixelDecoderConfig: maskformer_pixel_decoder.TABLES,
}
DECODERS: dict[type, PartTables] = {
    TransformerDecoderConfig: masked_attention.TABLES,
    MaskFormerDecoderConfig: maskformer_decoder.TABLES,
}
ROLES: dict[str, dict[type, PartTables]] = {  # by the fields of a ModelConfig
    "backbone": BACKBONES,
    "pixel_decoder": PIXEL_DECODERS,
    "decoder": DECODERS,
}
Origin = Literal["authors", "huggingface"]


def find_part(config: ModelConfig, role: str, origin: Origin) -> Any:
    """Returns the `AuthorsPart` or `HuggingFacePart` of a model's part.

    Raises:
        ValueError: checkpoints of that origin have no such part.
    """
    kind = type(getattr(config, role))
    part = getattr(ROLES[role].get(kind, PartTables()), origin)
    if part is None:
        raise ValueError(
            f"there is no table of conversion for a {role} of {kind.__name__} in the {origin} "
            "format; add one to m2f_jax.convert.tables.parts"
        )
    return part


def compose(config: ModelConfig, origin: Origin, places: Mapping[str, str]) -> Table:
    """Returns the table of a whole model: those of its parts, with each part in its place.

    Args:
        config: of the model.
        origin: whose checkpoint it is.
        places: the prefix of each part's names there.

    Raises:
        ValueError: checkpoints of that origin have no such part.
    """
    return joined(
        placed(find_part(config, role, origin).table, places[role], f"{role}.") for role in ROLES
    )
