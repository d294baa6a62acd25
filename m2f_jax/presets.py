"""The published models of images and videos: architecture, test size and scores.

Facts from the authors' configuration files and, in `model_zoo`, their model zoos; names as on the
Hugging Face hub.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Literal

from m2f_jax.config import (
    Mask2FormerConfig,
    MaskFormerConfig,
    MaskFormerPixelDecoderConfig,
    ModelConfig,
    ResNetConfig,
    SwinConfig,
    Task,
    TransformerDecoderConfig,
    VideoMask2FormerConfig,
)
from m2f_jax.model_zoo import MASK2FORMER, MASKFORMER, VIDEO_MASK2FORMER, Table

HUB_PREFIX = "facebook/mask2former-"  # before a Mask2Former's name: its repository on the hub
MASKFORMER_HUB_PREFIX = "facebook/"  # before a MaskFormer's name
LICENSE = "CC BY-NC 4.0"  # of the authors' weights, as both of their model zoos say
LICENSE_URL = "https://creativecommons.org/licenses/by-nc/4.0/"

Architecture = Literal["mask2former", "maskformer", "video_mask2former"]

SWIN_TINY = SwinConfig()
SWIN_SMALL = SwinConfig(depths=(2, 2, 18, 2))
SWIN_BASE = SwinConfig(
    embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), window_size=12
)
SWIN_LARGE = SwinConfig(
    embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), window_size=12
)
RESNET50 = ResNetConfig()
RESNET101 = ResNetConfig(depths=(3, 4, 23, 3))
RESNET101C = ResNetConfig(depths=(3, 4, 23, 3), stem_dim=128, deeplab=True)
_PARAMETERS = {  # with both decoders, but without what depends on classes and queries
    RESNET50: 43_898_240,
    RESNET101: 62_838_144,
    SWIN_TINY: 47_349_626,
    SWIN_SMALL: 68_667_530,
    SWIN_BASE: 106_832_184,
    SWIN_LARGE: 215_398_772,
}
_MASKFORMER_PARAMETERS = {  # likewise, of MaskFormers without encoder layers
    RESNET50: 41_190_336,
    RESNET101: 60_130_240,
    RESNET101C: 60_253_632,
    SWIN_TINY: 41_692_602,
    SWIN_SMALL: 63_010_506,
    SWIN_BASE: 101_764_984,
    SWIN_LARGE: 211_511_220,
}
_ENCODER_LAYER = 1_315_072  # parameters of one
_NARROWER_TOP = 4_128_768  # parameters that a ResNet's FPN lacks if it starts from encoder layers
_BACKBONES = {  # Swin-B was pretrained on ImageNet-1k, "base-IN21k" and Swin-L on ImageNet-21k
    "resnet50": RESNET50,
    "resnet101": RESNET101,
    "resnet101c": RESNET101C,
    "swin-tiny": SWIN_TINY,
    "swin-small": SWIN_SMALL,
    "swin-base": SWIN_BASE,
    "swin-base-IN21k": SWIN_BASE,
    "swin-large": SWIN_LARGE,
}


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A data set of the model zoo.

    Attributes:
        title: what it is called.
        validation_images: the number of images or videos that the published scores are of.
        cities: for Cityscapes, their number by city, with which their names begin.
    """

    title: str
    validation_images: int
    cities: Mapping[str, int] = field(default_factory=dict)


DATA_SETS: Mapping[str, DataSet] = {  # by the word in the names of presets
    "coco": DataSet(title="COCO", validation_images=5000),
    "cityscapes": DataSet(
        title="Cityscapes",
        validation_images=500,
        cities={"frankfurt": 267, "lindau": 59, "munster": 174},
    ),
    "ade": DataSet(title="ADE20K", validation_images=2000),
    "ade-full": DataSet(title="ADE20K, all classes", validation_images=2000),
    "mapillary-vistas": DataSet(title="Mapillary Vistas", validation_images=2000),
    "coco-stuff": DataSet(title="COCO-Stuff 10k", validation_images=1000),
    "youtubevis-2019": DataSet(title="YouTubeVIS 2019", validation_images=302),
    "youtubevis-2021": DataSet(title="YouTubeVIS 2021", validation_images=421),
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published model: its architecture, and how it was tested.

    Images were resized to `shortest_edge`, or to less where the other edge would have exceeded
    `longest_edge`, and padded to multiples of `size_divisor`. A query took part in a panoptic map
    if its score exceeded `object_mask_threshold`.

    Attributes:
        architecture: which of the authors' networks it is.
        data_set: what it was trained and tested on, a key of `DATA_SETS`.
        config: the network, with its classes and its task.
        shortest_edge: in pixels.
        longest_edge: in pixels.
        size_divisor: in pixels.
        object_mask_threshold: from 0 to 1.
        parameters: how many numbers were trained.
        scores: the authors', in percent, on the validation images at that single scale: "PQ", "AP"
            (of masks), "AP50" and "mIoU", as far as the model zoo reports them.
        file: the authors' checkpoint.
        hub: the repository on the Hugging Face hub; None if none is known.
    """

    architecture: Architecture
    data_set: str
    config: ModelConfig
    shortest_edge: int
    longest_edge: int
    size_divisor: int = 32
    object_mask_threshold: float
    parameters: int
    scores: Mapping[str, float]
    file: str
    hub: str | None


def preset(name: str) -> Preset:
    """Returns the published model of this name, or of this repository on the hub.

    Raises:
        ValueError: no such model; the message says which names come close.
    """
    short = name.removeprefix(HUB_PREFIX).removeprefix(MASKFORMER_HUB_PREFIX)
    if short not in PRESETS:
        close = difflib.get_close_matches(short, PRESETS, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(PRESETS)}"
        raise ValueError(f"no published model is called {name!r}; {hint}")
    return PRESETS[short]


def name_of(source: str) -> str | None:
    """Returns the name of the published model that a hub id or a path means; None if none.

    The last part of `source` may be the authors' name, such as model_final_dfa862.pkl, or the
    model's own, such as swin-tiny-coco-instance or mask2former-swin-tiny-coco-instance.pkl.
    """
    last = PurePath(source).name
    for name, preset in PRESETS.items():
        own = (name, f"mask2former-{name}")
        if last == preset.file or last in own or _stem(last) in own:
            return name
    return None


def _stem(file: str) -> str:
    """A file's name without its ending."""
    return file.rpartition(".")[0]


def nearest_preset(config: ModelConfig) -> Preset | None:
    """Returns the published model of the same classes that is most alike; None if there is none.

    A new model is tested as that one was: on ADE20K the size depends on backbone and task. The kind
    of model counts most, then the kind of backbone, then the backbone's width, then the task.
    """

    def distance(preset: Preset) -> tuple[bool, bool, int, bool]:
        other = preset.config
        return (
            type(other) is not type(config),
            type(other.backbone) is not type(config.backbone),
            abs(other.backbone.channels[0] - config.backbone.channels[0]),
            other.task != config.task,
        )

    same_classes = (p for p in PRESETS.values() if p.config.labels == config.labels)
    return min(same_classes, key=distance, default=None)


def _mask2formers(
    table: Table, architecture: Literal["mask2former", "video_mask2former"]
) -> dict[str, Preset]:
    """The presets of a table of Mask2Former's model zoo."""
    of_videos = architecture == "video_mask2former"
    kind = VideoMask2FormerConfig if of_videos else Mask2FormerConfig
    data_set, task, labels, test_size, metrics, rows, _ = table
    presets = {}
    for backbone, (digits, *scores) in rows.items():
        name = f"{backbone}-{data_set}-{task}"
        cfg = _BACKBONES[backbone]
        queries = 200 if backbone == "swin-large" and task != "semantic" else 100
        presets[name] = Preset(
            architecture=architecture,
            data_set=data_set,
            config=kind(
                labels=labels,
                task=task,
                backbone=cfg,
                decoder=TransformerDecoderConfig(num_queries=queries),
            ),
            shortest_edge=test_size[0],
            longest_edge=test_size[1],
            object_mask_threshold=0.0 if data_set == "mapillary-vistas" else 0.8,
            parameters=_PARAMETERS[cfg] + 257 * (len(labels) + 1) + 2 * 256 * queries,
            scores=dict(zip(metrics, scores, strict=True)),
            file=f"model_final_{digits}.pkl",
            hub=HUB_PREFIX + name if _is_on_hub(backbone, data_set, task) else None,
        )
    return presets


def _is_on_hub(backbone: str, data_set: str, task: Task) -> bool:
    """Whether a public trace of the model's repository on the hub was found."""
    if backbone.startswith("resnet") or data_set.startswith("youtubevis"):
        return False
    if (data_set, task) == ("ade", "instance"):
        return False
    return (backbone, data_set, task) != ("swin-base-IN21k", "cityscapes", "instance")


def _maskformers(table: Table) -> dict[str, Preset]:
    """The presets of a table of MaskFormer's model zoo."""
    data_set, task, labels, test_size, metrics, rows, ending = table
    presets = {}
    for backbone, (digits, *scores) in rows.items():
        name = f"maskformer-{backbone}-{ending}"
        cfg = _BACKBONES[backbone]
        layers = 6 if task == "panoptic" and isinstance(cfg, ResNetConfig) else 0
        is_on_hub = not layers and cfg != RESNET101C and name not in _MASKFORMERS_NOT_ON_HUB
        presets[name] = Preset(
            architecture="maskformer",
            data_set=data_set,
            config=MaskFormerConfig(
                labels=labels,
                task=task,
                backbone=cfg,
                pixel_decoder=MaskFormerPixelDecoderConfig(encoder_layers=layers),
            ),
            shortest_edge=test_size[0],
            longest_edge=test_size[1],
            size_divisor=1 if data_set == "coco" else 32,  # the authors' 0
            object_mask_threshold=0.7 if data_set == "ade" else 0.8,
            parameters=_MASKFORMER_PARAMETERS[cfg]
            + layers * _ENCODER_LAYER
            - bool(layers) * _NARROWER_TOP
            + 257 * (len(labels) + 1)
            + 256 * 100,
            scores=dict(zip(metrics, scores, strict=True)),
            file=f"model_final_{digits}.pkl",
            hub=MASKFORMER_HUB_PREFIX + name if is_on_hub else None,
        )
    return presets


# No public trace of these repositories was found, though transformers could hold such models.
_MASKFORMERS_NOT_ON_HUB = (
    "maskformer-resnet101-ade20k-full",
    "maskformer-resnet50-coco-stuff",
    "maskformer-resnet101-coco-stuff",
)

PRESETS: Mapping[str, Preset] = {
    name: preset
    for presets in (
        *(_mask2formers(table, "mask2former") for table in MASK2FORMER),
        *(_maskformers(table) for table in MASKFORMER),
        *(_mask2formers(table, "video_mask2former") for table in VIDEO_MASK2FORMER),
    )
    for name, preset in presets.items()
}
