"""What the converter needs of a part: its tables, and its config, at every origin."""

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from ..files.formats import StoredTensor
from .rules import Shape, Table


class PartShapes(NamedTuple):
    """The shapes of a part's tensors in a file by the authors' code.

    Attributes:
        shapes: of all tensors in the file, by name.
        place: the prefix of the part's names.
    """

    shapes: Mapping[str, Shape]
    place: str

    def get(self, name: str, ndim: int) -> Shape:
        """Returns the shape of a tensor that every such part has.

        Raises:
            ValueError: it isn't there, is empty, or has another number of axes than `ndim`.
        """
        shape = self.shapes.get(self.place + name)
        if shape is None or len(shape) != ndim or 0 in shape:
            problem = "is missing" if shape is None else f"has the shape {list(shape)}"
            raise ValueError(
                f"{self.place}{name} {problem}, unlike in the authors' MaskFormer and Mask2Former "
                "on Swin or ResNet (another backbone or pixel decoder, a per-pixel baseline, or a "
                "backbone alone, isn't supported)"
            )
        return shape

    def count(self, prefix: str) -> int:
        """Returns the number of layers in a list, such as "transformer.encoder.layers"."""
        return self.count_named(f"{prefix}.")

    def count_named(self, prefix: str) -> int:
        """Returns how many different numbers follow a prefix, such as the 3 after "stem.conv"."""
        pattern = re.compile(rf"{re.escape(self.place + prefix)}(\d+)\.")
        return len({match[1] for name in self.shapes if (match := pattern.match(name))})


class AuthorsPart(NamedTuple):
    """A part in checkpoints of the authors' code, which hold tensors and no config.

    Attributes:
        table: the part's tensors.
        mark: the name of a tensor that tells this part from others in its place.
        infer: returns the part's config, given its shapes and the number of attention heads, which
            no shape tells; raises ValueError if no config has these shapes.
    """

    table: Table
    mark: str
    infer: Callable[[PartShapes, int], Any]


class HuggingFaceBackbone(NamedTuple):
    """The `backbone_config` of a backbone in Hugging Face's config.json.

    Attributes:
        model_type: what transformers calls this kind of backbone.
        read: returns our config for one of theirs; the second argument begins error messages.
        write: returns their config for one of ours.
    """

    model_type: str
    read: Callable[[Mapping[str, Any], str], Any]
    write: Callable[[Any], dict[str, Any]]


class HuggingFacePart(NamedTuple):
    """A part in Hugging Face's checkpoints.

    Attributes:
        table: the part's tensors.
        backbone: its config in JSON, if it is a backbone; those of the decoders are part of
            the model's own (`huggingface.config`).
        extra: returns further tensors that transformers stores, given the part's config.
        spellings_in: for writing; by the class of a model's config, spellings that turn the table's
            names into those in such models. Reading takes either by the table's spellings.
    """

    table: Table
    backbone: HuggingFaceBackbone | None = None
    extra: Callable[[Any], dict[str, StoredTensor]] = lambda _: {}
    spellings_in: Mapping[type, tuple[tuple[str, str], ...]] = MappingProxyType({})


class PartTables(NamedTuple):
    """A part in the checkpoints of every origin; None where an origin has no such part.

    Names in the tables begin behind the part's place: those of the authors' pixel decoder behind
    "sem_seg_head.pixel_decoder.", and ours behind "pixel_decoder.".
    """

    authors: AuthorsPart | None = None
    huggingface: HuggingFacePart | None = None
