"""The architecture as data: one frozen dataclass per part, and their JSON form.

A part is the backbone, the pixel decoder or the Transformer decoder. In JSON, `"type"` says which
of the known ones it is; `BACKBONES`, `PIXEL_DECODERS` and `DECODERS` are the tables of names, to
which `m2f_jax.register_backbone` and its siblings add a line.
"""

import dataclasses
import math
import os
import types
import typing
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.files import read_json, write_json
from m2f_jax.labels import Label

Task = Literal["instance", "panoptic", "semantic"]

Width = Annotated[int, Between(1, 65_536)]
"""The number of channels of a layer."""

MODEL_TYPE = "m2f_jax"  # what tells our config.json from anybody else's


def check_heads(where: str, dim: int, num_heads: int):
    """Refuses attention whose width the heads can't share."""
    if dim % num_heads:
        raise ValueError(f"{where}: {num_heads} heads don't divide a width of {dim}")


@runtime_checkable
class AnyBackboneConfig(Protocol):
    """What a backbone's config has to be: a frozen dataclass that knows the widths of its maps."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def channels(self) -> tuple[int, ...]:
        """Widths of the feature maps at strides 4, 8, 16 and 32."""
        ...


@runtime_checkable
class AnyPixelDecoderConfig(Protocol):
    """What a pixel decoder's config has to be: a frozen dataclass with these widths."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def dim(self) -> int:
        """Width of the feature pyramid."""
        ...

    @property
    def mask_dim(self) -> int:
        """Width of the per-pixel embeddings."""
        ...


@runtime_checkable
class AnyDecoderConfig(Protocol):
    """What a Transformer decoder's config has to be: a frozen dataclass with these sizes."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def dim(self) -> int:
        """Width of the queries, and of the feature pyramid that they read."""
        ...

    @property
    def num_queries(self) -> int:
        """Predictions per image."""
        ...


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """A Swin Transformer (Liu et al., ICCV 2021); the defaults are Swin-T."""

    embed_dim: Width = 96
    depths: Annotated[tuple[int, ...], Between(1, 200)] = (2, 2, 6, 2)
    num_heads: Annotated[tuple[int, ...], Between(1, 1024)] = (3, 6, 12, 24)
    window_size: Annotated[int, Between(1, 256)] = 7
    mlp_ratio: Annotated[float, Between(0.01, 64)] = 4.0
    drop_path_rate: Annotated[float, Between(0, 0.99)] = 0.3

    def __post_init__(self):
        if len(self.depths) != 4 or len(self.num_heads) != 4:
            raise ValueError(
                "SwinConfig: depths and num_heads need 4 entries, one per stage (strides 4 to 32); "
                f"got {len(self.depths)} and {len(self.num_heads)}"
            )
        check_bounds(self)
        for dim, heads in zip(self.channels, self.num_heads, strict=True):
            check_heads("SwinConfig", dim, heads)

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each stage: embed_dim, doubled at every stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(4))


@dataclass(frozen=True, kw_only=True)
class ResNetConfig:
    """A ResNet (He et al., CVPR 2016) of bottlenecks with frozen norms; the defaults are R50.

    `stem_dim` is the width of what the first stage gets, `dim` that of its result. `deeplab` means
    detectron2's other form, R101c: three convolutions of 3 x 3 in the stem, and dilations of 1, 2,
    4 in the last stage.
    """

    depths: Annotated[tuple[int, ...], Between(1, 200)] = (3, 4, 6, 3)
    stem_dim: Width = 64
    dim: Width = 256
    deeplab: bool = False

    def __post_init__(self):
        check_bounds(self)
        if len(self.depths) != 4:
            raise ValueError(
                "ResNetConfig: depths needs 4 entries, one per stage (strides 4 to 32); "
                f"got {len(self.depths)}"
            )
        if self.dim % 4 or (self.deeplab and self.stem_dim % 2):
            raise ValueError(
                f"ResNetConfig: dim {self.dim} must be a multiple of 4, and with deeplab stem_dim "
                f"{self.stem_dim} one of 2"
            )

    @property
    def channels(self) -> tuple[int, ...]:
        """Width of each stage: dim, doubled at every stage."""
        return tuple(self.dim * 2**stage for stage in range(4))


@dataclass(frozen=True, kw_only=True)
class PixelDecoderConfig:
    """The multi-scale deformable attention pixel decoder (Sec. 3.2.2); published defaults."""

    dim: Width = 256
    mask_dim: Width = 256
    num_layers: Annotated[int, Between(1, 200)] = 6
    num_heads: Annotated[int, Between(1, 1024)] = 8
    num_points: Annotated[int, Between(1, 256)] = 4
    ffn_dim: Width = 1024

    def __post_init__(self):
        check_bounds(self)
        check_heads("PixelDecoderConfig", self.dim, self.num_heads)


@dataclass(frozen=True, kw_only=True)
class FPNPixelDecoderConfig:
    """A feature pyramid network in place of the deformable layers, as in MaskFormer."""

    dim: Width = 256
    mask_dim: Width = 256

    def __post_init__(self):
        check_bounds(self)


@dataclass(frozen=True, kw_only=True)
class TransformerDecoderConfig:
    """The masked-attention Transformer decoder (Sec. 3.2); published defaults.

    `num_layers` is the paper's L = 9; the authors' configuration files say 10, for 10 predictions.
    Where `masked` is False, queries look everywhere: plain cross-attention, as in MaskFormer.
    """

    dim: Width = 256
    num_layers: Annotated[int, Between(1, 200)] = 9
    num_heads: Annotated[int, Between(1, 1024)] = 8
    ffn_dim: Width = 2048
    num_queries: Annotated[int, Between(1, 100_000)] = 100
    masked: bool = True

    def __post_init__(self):
        check_bounds(self)
        check_heads("TransformerDecoderConfig", self.dim, self.num_heads)


# The first of each table is the default, also in files that were written without types.
BACKBONES: dict[str, type[AnyBackboneConfig]] = {"swin": SwinConfig, "resnet": ResNetConfig}
PIXEL_DECODERS: dict[str, type[AnyPixelDecoderConfig]] = {
    "deformable": PixelDecoderConfig,
    "fpn": FPNPixelDecoderConfig,
}
DECODERS: dict[str, type[AnyDecoderConfig]] = {"masked_attention": TransformerDecoderConfig}
TABLES: dict[Any, MutableMapping[str, Any]] = {  # by the annotation of a config's field
    AnyBackboneConfig: BACKBONES,
    AnyPixelDecoderConfig: PIXEL_DECODERS,
    AnyDecoderConfig: DECODERS,
}


@dataclass(frozen=True, kw_only=True)
class Mask2FormerConfig:
    """A whole model: its three parts, its classes and the task that it was trained for.

    `labels` names the K classes in the order of the class logits; "no object" is not among them.
    """

    labels: tuple[Label, ...]
    task: Task
    backbone: AnyBackboneConfig = field(default_factory=SwinConfig)
    pixel_decoder: AnyPixelDecoderConfig = field(default_factory=PixelDecoderConfig)
    decoder: AnyDecoderConfig = field(default_factory=TransformerDecoderConfig)

    def __post_init__(self):
        if self.task not in typing.get_args(Task):
            raise ValueError(
                f"Mask2FormerConfig: task is one of {typing.get_args(Task)}, not {self.task!r}"
            )
        ids = [label.id for label in self.labels]
        if len(set(ids)) < len(ids):
            raise ValueError(
                "Mask2FormerConfig: labels has two classes of one id; give each its own"
            )
        if not self.labels:
            raise ValueError("Mask2FormerConfig: labels is empty; a model needs at least one class")
        if self.pixel_decoder.dim != self.decoder.dim:
            raise ValueError(
                "Mask2FormerConfig: pixel_decoder.dim and decoder.dim must be equal (no published "
                f"model projects between them); got {self.pixel_decoder.dim}, {self.decoder.dim}"
            )

    @property
    def num_classes(self) -> int:
        """K, without "no object"."""
        return len(self.labels)

    @property
    def thing_classes(self) -> tuple[int, ...]:
        """Class indices that are countable things; the others are stuff."""
        return tuple(k for k, label in enumerate(self.labels) if label.is_thing)

    def to_dict(self) -> dict[str, Any]:
        """The config as plain JSON values.

        Raises:
            ValueError: a part isn't registered, so no file could say its type.
        """
        for part in (self.backbone, self.pixel_decoder, self.decoder):
            if type_of(part) is None:
                raise ValueError(f"{type(part).__name__} isn't registered as a part of a model")
        return {"model_type": MODEL_TYPE, **to_plain(self)}

    @classmethod
    def from_dict(cls, values: Any) -> "Mask2FormerConfig":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type; the message names it.
        """
        if isinstance(values, Mapping):
            values = {key: value for key, value in values.items() if key != "model_type"}
        return from_plain(cls, values, cls.__name__)

    def save(self, path: str | os.PathLike):
        """Writes the config as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Mask2FormerConfig":
        """Reads what `save` wrote.

        Raises:
            ValueError: as `from_dict`, and when the file isn't JSON; the message names the file.
        """
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def type_of(part: Any) -> str | None:
    """The name under which a part's config is registered; None for anything else."""
    types = (name for table in TABLES.values() for name in table if type(part) is table[name])
    return next(types, None)


def to_plain(value: Any) -> Any:
    """A dataclass as plain JSON values, with the `"type"` of every part in it."""
    if isinstance(value, tuple):
        return [to_plain(x) for x in value]
    if not dataclasses.is_dataclass(value):
        return value
    name = type_of(value)
    fields = {x.name: to_plain(getattr(value, x.name)) for x in dataclasses.fields(value)}
    return fields if name is None else {"type": name, **fields}


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Plain JSON values as `kind`: a dataclass, a part, a tuple of one kind, or a scalar.

    Raises:
        ValueError: a value doesn't fit, or a part's type is unknown; the message names the field.
    """
    if kind in TABLES:
        return _part_from_plain(TABLES[kind], value, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} needs an object, not {value!r:.80}")
        hints = typing.get_type_hints(kind)
        required = {
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        if unknown := sorted(set(value) - set(hints)):
            raise ValueError(f"{where} has no field {', '.join(unknown):.200}")
        if missing := sorted(required - set(value)):
            raise ValueError(f"{where} lacks the field {', '.join(missing)}")
        fields = {key: from_plain(hints[key], v, f"{where}.{key}") for key, v in value.items()}
        try:
            return typing.cast(type, kind)(**fields)
        except ValueError as error:  # of its own checks, which don't know the file
            raise ValueError(f"{where}: {error}") from error
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} needs a list, not {value!r:.80}")
        if Ellipsis not in arguments and len(value) != len(arguments):
            raise ValueError(f"{where} needs a list of {len(arguments)}, not {value!r:.80}")
        return tuple(from_plain(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is types.UnionType:
        return _from_alternatives(arguments, value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            expected = ", ".join(arguments)
            raise ValueError(f"{where} has the value {value!r:.80}; expected one of {expected}")
        return value
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} has the value {value!r:.80}; expected {kind.__name__}")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where} has the value {value!r}, which isn't a finite number")
    return value


def _part_from_plain(table: Mapping[str, Any], value: Any, where: str) -> Any:
    """The config of one of the parts in `table`, by its type."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} needs an object, not {value!r:.80}")
    fields = dict(with_type(value, table))
    name = fields.pop("type")
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{where} has the type {name!r:.80}; known: {', '.join(table)}")
    return from_plain(table[name], fields, where)


def with_type(values: Mapping[str, Any], table: Mapping[str, Any]) -> Mapping[str, Any]:
    """The JSON of a part with its type, which files of version 0.1 lack.

    There, an FPN was told by the name of its width, `conv_dim`.
    """
    if "type" in values:
        return values
    if table is PIXEL_DECODERS and {"conv_dim"} <= set(values) <= {"conv_dim", "mask_dim"}:
        renamed = {"dim" if name == "conv_dim" else name: x for name, x in values.items()}
        return {"type": "fpn", **renamed}
    return {"type": next(iter(table)), **values}


def _from_alternatives(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """A value of one of several kinds: None, or the dataclass that has its fields."""
    if value is None and types.NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not types.NoneType]
    if isinstance(value, Mapping):
        kinds.sort(key=lambda kind: not set(value) <= set(getattr(kind, "__annotations__", ())))
    return from_plain(kinds[0], value, where)
