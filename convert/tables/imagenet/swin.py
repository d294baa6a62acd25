"""Swins trained on ImageNet: their tables and their sizes.

The authors of Mask2Former copied the Swin authors' code, and transformers uses one Swin for both;
so the rules are those of `swin`. The norms of a backbone's outputs (`backbone.norms`) are
Mask2Former's own and in no such file.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from m2f_jax.config import SwinConfig

from ..backbones import swin
from ..rules import Rule, Shape, Table, placed

BACKBONE = "backbone."
REQUIRED = swin.REQUIRED


def is_pretrained(name: str) -> bool:
    """Returns whether a parameter of ours is in an ImageNet backbone."""
    return name.startswith(BACKBONE) and not name.startswith(BACKBONE + swin.OUTPUT_NORMS)


def without_output_norms(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Returns the rules of the tensors that a file of a Swin alone holds."""
    return tuple(rule for rule in rules if not rule.ours[0].startswith(swin.OUTPUT_NORMS))


AUTHORS = placed(  # patch_embed.proj.weight, layers.0.blocks.0.attn.qkv.weight, ...
    Table(
        without_output_norms(swin.AUTHORS_RULES),
        unused=(
            r"layers\.\d+\.blocks\.\d+\.attn\.relative_position_index",  # computed
            r"layers\.\d+\.blocks\.\d+\.attn_mask",  # computed
            r"norm\.(weight|bias)",  # before the classes
            r"head\.(weight|bias)",  # the classes
        ),
        spellings=((r"module\.", ""),),  # of a DistributedDataParallel
    ),
    theirs="",
    ours=BACKBONE,
)
HUGGING_FACE = placed(  # embeddings.norm.weight, encoder.layers.0.blocks.0.layernorm_before.weight
    Table(
        without_output_norms(swin.HUGGING_FACE_RULES),
        unused=(
            r"encoder\..*\.relative_position_index",  # computed
            r"layernorm\.(weight|bias)",  # before the classes
            r"classifier\.(weight|bias)",  # the classes
        ),
        spellings=(
            (r"module\.", ""),
            (r"swin\.", ""),  # of a model with classes
            *swin.HUGGING_FACE_SPELLINGS,
        ),
    ),
    theirs="",
    ours=BACKBONE,
)


def find_table(names: Iterable[str]) -> Table | None:
    """Returns the table of a file with tensors of these names; or None if it isn't theirs."""
    mark = re.compile(r"(module\.)?patch_embed\.proj\.weight")
    return AUTHORS if any(map(mark.fullmatch, names)) else None


def sizes(shapes: Mapping[str, Shape], rules: Iterable[Rule]) -> dict[str, Any]:
    """Returns the fields of a SwinConfig that shapes tell; empty if a needed tensor is missing."""
    names = {rule.ours[0]: rule.theirs[0] for rule in rules}
    width = shapes.get(names["backbone.patch_embedding.norm.scale"], ())
    table = names[f"{BACKBONE}{swin.OUR_BLOCK}.attention.relative_position_bias"]
    first = [shapes.get(table.format(stage, 0), ()) for stage in range(4)]
    if len(width) != 1 or any(len(shape) != 2 for shape in first):
        return {}
    block = re.escape(table[: table.rindex("{}") + 2]).replace(r"\{\}", r"(\d+)")
    blocks = {match.groups() for name in shapes if (match := re.match(rf"{block}\.", name))}
    return {
        "embed_dim": width[0],
        "depths": tuple(sum(i == str(stage) for i, _ in blocks) for stage in range(4)),
        "num_heads": tuple(heads for _, heads in first),
        "window_size": swin.window_size(first[0]),
    }


def check_shapes(shapes: Mapping[str, Shape], rules: Iterable[Rule], backbone: SwinConfig):
    """Refuses tensors of another architecture than `backbone`; errors as of `check_sizes`."""
    check_sizes(sizes(shapes, rules), backbone)


def check_sizes(found: Mapping[str, Any], backbone: SwinConfig):
    """Refuses a backbone of another architecture than `backbone`.

    Raises:
        ValueError: the message lists the fields that differ, and names a published file that fits.
    """
    different = [name for name, value in found.items() if value != getattr(backbone, name)]
    if not different:
        return
    reason = ""
    if "window_size" in different:
        reason = (
            "; windows of another size have tables of relative positions of other shapes, which "
            "aren't interpolated"
        )
    name = published_name(backbone)
    advice = "" if name is None else f"; take one such as {name}.pth, or {on_the_hub(name)}"
    raise ValueError(
        "the backbone in it has "
        + ", ".join(f"{name} {found[name]}" for name in different)
        + ", and the model needs "
        + ", ".join(f"{name} {getattr(backbone, name)}" for name in different)
        + reason
        + advice
    )


def published_name(backbone: SwinConfig) -> str | None:
    """Returns the name of the Swin authors' file of this architecture; None if there is none.

    Where there are two, it is the one that was trained on more images.
    """
    widths = {(96, 6): "tiny", (96, 18): "small", (128, 18): "base", (192, 18): "large"}
    images = {7: "224", 12: "384"}
    size = widths.get((backbone.embed_dim, backbone.depths[2]))
    image = images.get(backbone.window_size)
    if size is None or image is None or (size in ("tiny", "small") and image == "384"):
        return None
    data = "_22k" if size in ("base", "large") else ""
    return f"swin_{size}_patch4_window{backbone.window_size}_{image}{data}"


def on_the_hub(name: str) -> str:
    """Returns the Hugging Face id of one of the Swin authors' files."""
    return "microsoft/" + name.replace("22k", "in22k").replace("_", "-")
