"""The authors' checkpoints: where the parts are, and the architecture that the tensors imply."""

from collections.abc import Iterable, Mapping

from m2f_jax.config import (
    Mask2FormerConfig,
    MaskFormerConfig,
    MaskFormerDecoderConfig,
    ModelConfig,
    Task,
    VideoMask2FormerConfig,
)
from m2f_jax.labels import Label

from .origins import AuthorsPart, PartShapes
from .parts import DECODERS, PIXEL_DECODERS, ROLES, compose
from .rules import Shape, Table, joined, placed, respell

PLACES = {
    "backbone": "backbone.",
    "pixel_decoder": "sem_seg_head.pixel_decoder.",
    "decoder": "sem_seg_head.predictor.",
}
UNUSED = (r"criterion\.empty_weight",)  # the loss's class weights


def table_of(config: ModelConfig) -> Table:
    """Returns the table of a whole model's tensors.

    Raises:
        ValueError: the authors' code has no such part.
    """
    return joined([compose(config, "authors", PLACES), Table((), UNUSED)])


def spellings(names: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Returns the spellings for a file with tensors of these names."""
    heads = "|".join(sorted({name.split(".")[0] for name in _names_in_pixel_decoders()}))
    anywhere = (
        (r"module\.", ""),  # of a DistributedDataParallel
        (  # MaskFormer's, and what the authors' code makes of a file that states no version
            rf"sem_seg_head\.(pixel_decoder\.)*(?=({heads})\b)",
            PLACES["pixel_decoder"],
        ),
    )
    parts = recognize(respell(name, anywhere) for name in names)
    return (*anywhere, *(x for role, part in parts.items() for x in _spellings(part, role)))


def _spellings(part: AuthorsPart, role: str) -> tuple[tuple[str, str], ...]:
    """Returns a part's spellings, of whole names."""
    return placed(part.table, PLACES[role], "").spellings


def _names_in_pixel_decoders() -> Iterable[str]:
    for tables in PIXEL_DECODERS.values():
        if tables.authors is not None:
            for rule in tables.authors.table.rules:
                yield from rule.theirs


def recognize(names: Iterable[str]) -> dict[str, AuthorsPart]:
    """Returns the kind of each part in a file, by role; if none is recognized, the first known."""
    names = list(names)
    found = {}
    for role, kinds in ROLES.items():
        known = [tables.authors for tables in kinds.values() if tables.authors is not None]
        found[role] = next((part for part in known if _is_in(names, part, role)), known[0])
    return found


def _is_in(names: Iterable[str], part: AuthorsPart, role: str) -> bool:
    """Returns whether the part's mark is among the names, in any spelling."""
    spellings = _spellings(part, role)
    return any(respell(name, spellings) == PLACES[role] + part.mark for name in names)


def count_classes(shapes: Mapping[str, Shape]) -> int:
    """Returns the number of classes, without "no object"; raises ValueError as `infer_config`."""
    return PartShapes(shapes, PLACES["decoder"]).get("class_embed.weight", 2)[0] - 1


def count_queries(shapes: Mapping[str, Shape]) -> int:
    """Returns the number of queries; raises ValueError as `infer_config`."""
    return PartShapes(shapes, PLACES["decoder"]).get("query_embed.weight", 2)[0]


def infer_config(
    shapes: Mapping[str, Shape],
    labels: tuple[Label, ...],
    task: Task,
    num_heads: int = 8,
    kind: type[ModelConfig] | None = None,
) -> ModelConfig:
    """Returns the architecture behind a checkpoint's tensors.

    Args:
        shapes: of the tensors, by their standard names.
        labels: the classes.
        task: what the model was trained for.
        num_heads: of the attention in both decoders, which no shape tells; 8 in every published
            model.
        kind: the class of the config, where the tensors may be of several kinds; by default, of a
            model of images.

    Raises:
        ValueError: the tensors aren't those of a model of known parts; the message names the
            missing one.
    """
    configs = {
        role: part.infer(PartShapes(shapes, PLACES[role]), num_heads)
        for role, part in recognize(shapes).items()
    }
    kinds = kinds_of(shapes)
    return (kind if kind in kinds else kinds[0])(labels=labels, task=task, **configs)


def kinds_of(names: Iterable[str]) -> tuple[type[ModelConfig], ...]:
    """Returns the kinds of models that tensors of these standard names may be, likeliest first."""
    if recognize(names)["decoder"] is DECODERS[MaskFormerDecoderConfig].authors:
        return (MaskFormerConfig,)
    return Mask2FormerConfig, VideoMask2FormerConfig
