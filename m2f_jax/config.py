"""The architecture as data: a frozen dataclass for each kind of part and of model.

A part is the backbone, the pixel decoder or the Transformer decoder. In JSON, `"type"` says which
kind it is: a key of `BACKBONES`, `PIXEL_DECODERS` or `DECODERS`, to which
`m2f_jax.register_backbone`, `register_pixel_decoder` and `register_decoder` add a line. `MODELS`
has the kinds of models.
"""

import os
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar, runtime_checkable

from m2f_jax.bounds import Between, check_bounds
from m2f_jax.files import read_json, write_json
from m2f_jax.labels import Label
from m2f_jax.plain import TABLES, from_plain, to_plain, type_of

Task = Literal["instance", "panoptic", "semantic"]

Width = Annotated[int, Between(1, 65_536)]
"""The number of channels of a layer."""

Config = TypeVar("Config", bound="ModelConfig")
MODEL_TYPE = "m2f_jax"  # marks a config.json as ours


def check_heads(where: str, dim: int, num_heads: int):
    """Refuses attention whose width isn't a multiple of its number of heads."""
    if dim % num_heads:
        raise ValueError(f"{where}: {num_heads} heads don't divide a width of {dim}")


@runtime_checkable
class AnyBackboneConfig(Protocol):
    """Any backbone's config: a frozen dataclass with the widths of its feature maps."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    @property
    def channels(self) -> tuple[int, ...]:
        """Widths of the feature maps at strides 4, 8, 16 and 32."""
        ...


@runtime_checkable
class AnyPixelDecoderConfig(Protocol):
    """Any pixel decoder's config: a frozen dataclass with these widths."""

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
    """Any Transformer decoder's config: a frozen dataclass with these sizes."""

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

    `stem_dim` is the input width of the first stage, `dim` its output width. `deeplab` selects
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
class MaskFormerPixelDecoderConfig:
    """MaskFormer's pixel decoder: a feature pyramid, and one map for its Transformer decoder.

    That map is the backbone's last one, of stride 32, projected to width `dim`. In the panoptic
    models on ResNets, plain Transformer encoder layers then refine it.

    Attributes:
        dim: width of the map that the decoder reads.
        fpn_dim: width of the pyramid; equals `dim` where there are encoder layers.
        mask_dim: width of the per-pixel embeddings.
        encoder_layers: the number of encoder layers; published models have 0 or 6.
        num_heads: attention heads of the encoder layers.
        ffn_dim: hidden width of the encoder layers.
        dropout: rate in the encoder layers, in training.
    """

    dim: Width = 256
    fpn_dim: Width = 256
    mask_dim: Width = 256
    encoder_layers: Annotated[int, Between(0, 200)] = 0
    num_heads: Annotated[int, Between(1, 1024)] = 8
    ffn_dim: Width = 2048
    dropout: Annotated[float, Between(0, 0.99)] = 0.1

    def __post_init__(self):
        check_bounds(self)
        if self.encoder_layers:
            check_heads("MaskFormerPixelDecoderConfig", self.dim, self.num_heads)
            if self.fpn_dim != self.dim:
                raise ValueError(
                    "MaskFormerPixelDecoderConfig: with encoder layers, dim and fpn_dim must be "
                    f"equal; got {self.dim} and {self.fpn_dim}"
                )


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


@dataclass(frozen=True, kw_only=True)
class MaskFormerDecoderConfig:
    """MaskFormer's Transformer decoder, which is DETR's; published defaults.

    Queries start at zero and look at all of one map; each of the layers gives a prediction.
    """

    dim: Width = 256
    num_layers: Annotated[int, Between(1, 200)] = 6
    num_heads: Annotated[int, Between(1, 1024)] = 8
    ffn_dim: Width = 2048
    num_queries: Annotated[int, Between(1, 100_000)] = 100
    dropout: Annotated[float, Between(0, 0.99)] = 0.1

    def __post_init__(self):
        check_bounds(self)
        check_heads("MaskFormerDecoderConfig", self.dim, self.num_heads)


# The first entry of each table is the default, also for files written without types.
BACKBONES: dict[str, type[AnyBackboneConfig]] = {"swin": SwinConfig, "resnet": ResNetConfig}
PIXEL_DECODERS: dict[str, type[AnyPixelDecoderConfig]] = {
    "deformable": PixelDecoderConfig,
    "fpn": FPNPixelDecoderConfig,
    "maskformer": MaskFormerPixelDecoderConfig,
}
DECODERS: dict[str, type[AnyDecoderConfig]] = {
    "masked_attention": TransformerDecoderConfig,
    "maskformer": MaskFormerDecoderConfig,
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A whole model: its three parts, its classes and the task that it was trained for.

    The base class of all kinds of models' configs; make one of those, such as `Mask2FormerConfig`.

    `labels` names the K classes in the order of the class logits; "no object" is not among them.
    """

    labels: tuple[Label, ...]
    task: Task
    backbone: AnyBackboneConfig
    pixel_decoder: AnyPixelDecoderConfig
    decoder: AnyDecoderConfig

    def __post_init__(self):
        if self.task not in typing.get_args(Task):
            raise ValueError(
                f"{type(self).__name__}: task is one of {typing.get_args(Task)}, not {self.task!r}"
            )
        ids = [label.id for label in self.labels]
        if len(set(ids)) < len(ids):
            raise ValueError(
                f"{type(self).__name__}: labels has two classes of one id; give each its own"
            )
        if not self.labels:
            raise ValueError(
                f"{type(self).__name__}: labels is empty; a model needs at least one class"
            )
        if self.pixel_decoder.dim != self.decoder.dim:
            raise ValueError(
                f"{type(self).__name__}: pixel_decoder.dim and decoder.dim must be equal (no "
                "published model projects between them); got "
                f"{self.pixel_decoder.dim}, {self.decoder.dim}"
            )
        if isinstance(self.pixel_decoder, MaskFormerPixelDecoderConfig) and isinstance(
            self.decoder, TransformerDecoderConfig
        ):
            raise ValueError(
                f"{type(self).__name__}: MaskFormer's pixel decoder makes one map, and the "
                "masked-attention decoder reads three; take MaskFormer's decoder with it"
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
        """Returns the config as plain JSON values.

        Raises:
            ValueError: a part isn't registered, so no file could say its type.
        """
        for part in (self.backbone, self.pixel_decoder, self.decoder):
            if type_of(part) is None:
                raise ValueError(f"{type(part).__name__} isn't registered as a part of a model")
        return {"model_type": MODEL_TYPE, **to_plain(self)}

    @classmethod
    def from_dict(cls: type[Config], values: Any) -> Config:
        """Makes a config of what `to_dict` returns; on `ModelConfig`, of the kind that it names.

        Raises:
            ValueError: a field is missing, unknown or of the wrong type; or the model is of
                another kind than this class. The message names the field or the kind.
        """
        if isinstance(values, Mapping):
            values = {key: value for key, value in values.items() if key != "model_type"}
        config = from_plain(ModelConfig, values, cls.__name__)
        if not isinstance(config, cls):
            raise ValueError(f"{cls.__name__} needs another kind of model than {type_of(config)!r}")
        return config

    def save(self, path: str | os.PathLike):
        """Writes the config as JSON."""
        write_json(path, self.to_dict())

    @classmethod
    def load(cls: type[Config], path: str | os.PathLike) -> Config:
        """Reads what `save` wrote.

        Raises:
            ValueError: as `from_dict`, and when the file isn't JSON; the message names the file.
        """
        values = read_json(path)
        try:
            return cls.from_dict(values)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


@dataclass(frozen=True, kw_only=True)
class Mask2FormerConfig(ModelConfig):
    """A Mask2Former (Cheng et al., CVPR 2022); the default backbone is Swin-T."""

    backbone: AnyBackboneConfig = field(default_factory=SwinConfig)
    pixel_decoder: AnyPixelDecoderConfig = field(default_factory=PixelDecoderConfig)
    decoder: AnyDecoderConfig = field(default_factory=TransformerDecoderConfig)


@dataclass(frozen=True, kw_only=True)
class MaskFormerConfig(ModelConfig):
    """A MaskFormer (Cheng et al., NeurIPS 2021); the default backbone is Swin-T."""

    backbone: AnyBackboneConfig = field(default_factory=SwinConfig)
    pixel_decoder: AnyPixelDecoderConfig = field(default_factory=MaskFormerPixelDecoderConfig)
    decoder: AnyDecoderConfig = field(default_factory=MaskFormerDecoderConfig)


@dataclass(frozen=True, kw_only=True)
class VideoMask2FormerConfig(ModelConfig):
    """A Mask2Former for clips (Cheng et al., arXiv:2112.10764); the default backbone is Swin-T.

    The model has the same parameters as that of a `Mask2FormerConfig` with the same parts.
    """

    task: Task = "instance"
    backbone: AnyBackboneConfig = field(default_factory=SwinConfig)
    pixel_decoder: AnyPixelDecoderConfig = field(default_factory=PixelDecoderConfig)
    decoder: AnyDecoderConfig = field(default_factory=TransformerDecoderConfig)

    def __post_init__(self):
        super().__post_init__()
        if self.task != "instance":
            raise ValueError(f"VideoMask2FormerConfig: task must be 'instance', not {self.task!r}")


MODELS: dict[str, type[ModelConfig]] = {
    "mask2former": Mask2FormerConfig,
    "maskformer": MaskFormerConfig,
    "video_mask2former": VideoMask2FormerConfig,
}
TABLES |= {
    AnyBackboneConfig: BACKBONES,
    AnyPixelDecoderConfig: PIXEL_DECODERS,
    AnyDecoderConfig: DECODERS,
    ModelConfig: MODELS,
}
