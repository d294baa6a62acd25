"""The architecture as data: one frozen dataclass per stage, and their JSON form."""

import dataclasses
import os
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from m2f_jax.files import read_json, write_json
from m2f_jax.labels import Label

Task = Literal["instance", "panoptic", "semantic"]

MODEL_TYPE = "m2f_jax"  # what tells our config.json from anybody else's


def check_positive(config: Any):
    """Refuses sizes and counts of a config that are 0 or less, by name."""
    for name, value in vars(config).items():
        values = value if isinstance(value, tuple) else (value,)
        numbers = [x for x in values if not isinstance(x, bool | None)]
        if name != "drop_path_rate" and any(x <= 0 for x in numbers):
            raise ValueError(f"{type(config).__name__}: {name} must be above 0, not {value}")


def check_heads(where: str, dim: int, num_heads: int):
    """Refuses attention whose width the heads can't share."""
    if dim % num_heads:
        raise ValueError(f"{where}: {num_heads} heads don't divide a width of {dim}")


@dataclass(frozen=True, kw_only=True)
class SwinConfig:
    """A Swin Transformer (Liu et al., ICCV 2021); the defaults are Swin-T."""

    embed_dim: int = 96
    depths: tuple[int, ...] = (2, 2, 6, 2)
    num_heads: tuple[int, ...] = (3, 6, 12, 24)
    window_size: int = 7
    mlp_ratio: float = 4.0
    drop_path_rate: float = 0.3

    def __post_init__(self):
        if len(self.depths) != 4 or len(self.num_heads) != 4:
            raise ValueError(
                "SwinConfig: depths and num_heads need 4 entries, one per stage (strides 4 to 32); "
                f"got {len(self.depths)} and {len(self.num_heads)}"
            )
        check_positive(self)
        for dim, heads in zip(self.dims, self.num_heads, strict=True):
            check_heads("SwinConfig", dim, heads)

    @property
    def dims(self) -> tuple[int, ...]:
        """Width of each stage: embed_dim, doubled at every stage."""
        return tuple(self.embed_dim * 2**stage for stage in range(4))


@dataclass(frozen=True, kw_only=True)
class PixelDecoderConfig:
    """The multi-scale deformable attention pixel decoder (Sec. 3.2.2); published defaults."""

    dim: int = 256
    mask_dim: int = 256
    num_layers: int = 6
    num_heads: int = 8
    num_points: int = 4
    ffn_dim: int = 1024

    def __post_init__(self):
        check_positive(self)
        check_heads("PixelDecoderConfig", self.dim, self.num_heads)


@dataclass(frozen=True, kw_only=True)
class FPNPixelDecoderConfig:
    """A feature pyramid network in place of the deformable layers, as in MaskFormer.

    Its width has a name of its own, by which the two pixel decoders are told apart in JSON.
    """

    conv_dim: int = 256
    mask_dim: int = 256

    def __post_init__(self):
        check_positive(self)

    @property
    def dim(self) -> int:
        """The width of the pyramid, which is that of the convolutions."""
        return self.conv_dim


@dataclass(frozen=True, kw_only=True)
class TransformerDecoderConfig:
    """The masked-attention Transformer decoder (Sec. 3.2); published defaults.

    `num_layers` is the paper's L = 9; the authors' configuration files say 10, for 10 predictions.
    Where `masked` is False, queries look everywhere: plain cross-attention, as in MaskFormer.
    """

    dim: int = 256
    num_layers: int = 9
    num_heads: int = 8
    ffn_dim: int = 2048
    num_queries: int = 100
    masked: bool = True

    def __post_init__(self):
        check_positive(self)
        check_heads("TransformerDecoderConfig", self.dim, self.num_heads)


@dataclass(frozen=True, kw_only=True)
class Mask2FormerConfig:
    """A whole model: its three stages, its classes and the task that it was trained for.

    `labels` names the K classes in the order of the class logits; "no object" is not among them.
    """

    labels: tuple[Label, ...]
    task: Task
    backbone: SwinConfig = field(default_factory=SwinConfig)
    pixel_decoder: PixelDecoderConfig | FPNPixelDecoderConfig = field(
        default_factory=PixelDecoderConfig
    )
    decoder: TransformerDecoderConfig = field(default_factory=TransformerDecoderConfig)

    def __post_init__(self):
        if self.task not in typing.get_args(Task):
            raise ValueError(
                f"Mask2FormerConfig: task is one of {typing.get_args(Task)}, not {self.task!r}"
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
        """The config as plain JSON values."""
        return {"model_type": MODEL_TYPE, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Mask2FormerConfig":
        """The inverse of `to_dict`.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type; the message names it.
        """
        values = {key: value for key, value in values.items() if key != "model_type"}
        return from_plain(cls, values, cls.__name__)

    def save(self, path: str | os.PathLike):
        """Writes the config as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls, path: str | os.PathLike) -> "Mask2FormerConfig":
        """Reads what `save` wrote.

        Raises:
            ValueError: as `from_dict`, and when the file isn't JSON.
        """
        return cls.from_dict(read_json(path))


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Plain JSON values as `kind`: a dataclass, a tuple of one kind, or a scalar.

    Raises:
        ValueError: naming `where`, when a value doesn't fit.
    """
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} needs an object, not {value!r}")
        hints = typing.get_type_hints(kind)
        required = {
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        if unknown := sorted(set(value) - set(hints)):
            raise ValueError(f"{where} has no field {', '.join(unknown)}")
        if missing := sorted(required - set(value)):
            raise ValueError(f"{where} lacks the field {', '.join(missing)}")
        return typing.cast(type, kind)(
            **{key: from_plain(hints[key], v, f"{where}.{key}") for key, v in value.items()}
        )
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} needs a list, not {value!r}")
        return tuple(from_plain(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is types.UnionType:
        return _from_alternatives(arguments, value, where)
    if origin is Literal:
        kind = str
    if kind is float and type(value) is int:
        value = float(value)
    if type(value) is not kind:
        raise ValueError(f"{where} has the value {value!r}; expected {kind.__name__}")
    return value


def _from_alternatives(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """A value of one of several kinds: None, or the dataclass that has its fields."""
    if value is None and types.NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not types.NoneType]
    if isinstance(value, Mapping):
        kinds.sort(key=lambda kind: not set(value) <= set(typing.get_type_hints(kind)))
    return from_plain(kinds[0], value, where)
