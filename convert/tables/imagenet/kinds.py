"""The kinds of backbone that can start from a file trained on ImageNet."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from m2f_jax.config import ResNetConfig, SwinConfig

from ..huggingface.json_fields import check_fields
from ..rules import Table
from . import resnet, swin


class BackboneKind(NamedTuple):
    """A kind of backbone.

    Attributes:
        name: for messages.
        config_class: of our config.
        find_table: returns the table of a file with tensors of these names, or None.
        huggingface: the table of Hugging Face's files.
        required: fields of Hugging Face's config whose other values mean another network.
        is_pretrained: returns whether such files have a parameter of ours.
        check_shapes: refuses shapes of another size than the backbone's, given the shapes by name,
            the table's rules and the backbone's config. Other differences are listed later.
    """

    name: str
    config_class: type
    find_table: Callable[[Iterable[str]], Table | None]
    huggingface: Table
    required: Mapping[str, Any]
    is_pretrained: Callable[[str], bool]
    check_shapes: Callable[..., None] = lambda *_: None


KINDS = {  # by Hugging Face's model_type
    "swin": BackboneKind(
        "Swin",
        SwinConfig,
        swin.find_table,
        swin.HUGGING_FACE,
        swin.REQUIRED,
        swin.is_pretrained,
        swin.check_shapes,
    ),
    "resnet": BackboneKind(
        "ResNet",
        ResNetConfig,
        resnet.find_table,
        resnet.HUGGING_FACE,
        {key: x for key, x in resnet.REQUIRED.items() if key != "out_features"},
        lambda name: name.startswith(resnet.BACKBONE),
    ),
}


def of_names(names: Iterable[str]) -> tuple[BackboneKind | None, Table | None]:
    """Returns the kind and the table of a file with tensors of these names; None if unknown."""
    names = list(names)
    for kind in KINDS.values():
        if (table := kind.find_table(names)) is not None:
            return kind, table
    return None, None


def of_huggingface(
    values: Mapping[str, Any], where: str
) -> tuple[BackboneKind | None, Table | None]:
    """Returns the kind and the table of a folder with this config.json; None if unknown.

    Raises:
        ValueError: a field means another network; the message begins with `where`.
    """
    model_type = values.get("model_type")
    kind = KINDS.get(model_type) if isinstance(model_type, str) else None
    if kind is None:
        return None, None
    check_fields(values, kind.required, where)
    return kind, kind.huggingface
