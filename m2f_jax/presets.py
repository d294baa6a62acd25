"""The published models of images and videos: architecture, test size and scores, as plain data.

Facts from the authors' configuration files and model zoos; names as on the Hugging Face hub.
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
from m2f_jax.labels import (
    ADE20K,
    ADE20K_FULL,
    CITYSCAPES,
    COCO,
    COCO_STUFF,
    MAPILLARY_VISTAS,
    YOUTUBEVIS_2019,
    YOUTUBEVIS_2021,
    Label,
    things,
)

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


def _table(
    data_set: str,
    task: Task,
    labels: tuple[Label, ...],
    test_size: tuple[int, int],
    metrics: tuple[str, ...],
    rows: Mapping[str, tuple[str, *tuple[float, ...]]],
    architecture: Literal["mask2former", "video_mask2former"] = "mask2former",
) -> dict[str, Preset]:
    """The presets of one table of the model zoo; a row has the file's digits, then the scores."""
    of_videos = architecture == "video_mask2former"
    kind = VideoMask2FormerConfig if of_videos else Mask2FormerConfig
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


def _maskformers(
    data_set: str,
    suffix: str,
    task: Task,
    labels: tuple[Label, ...],
    test_size: tuple[int, int],
    rows: Mapping[str, tuple[str, float]],
) -> dict[str, Preset]:
    """The presets of one table of MaskFormer's model zoo; `suffix` ends their names.

    A row has the file's digits, then the main score.
    """
    presets = {}
    for backbone, (digits, score) in rows.items():
        name = f"maskformer-{backbone}-{suffix}"
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
            scores={"PQ" if task == "panoptic" else "mIoU": score},
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
    **_table(
        "cityscapes",
        "instance",
        things(CITYSCAPES),
        (1024, 2048),
        ("AP", "AP50"),
        {
            "resnet50": ("01a8ed", 37.4, 61.9),
            "resnet101": ("c2b8c8", 38.5, 63.9),
            "swin-tiny": ("6a63f8", 39.7, 66.9),
            "swin-small": ("974824", 41.8, 70.4),
            "swin-base-IN21k": ("7a3b6d", 42.0, 68.8),
            "swin-large": ("dfa862", 43.7, 71.4),
        },
    ),
    **_table(
        "cityscapes",
        "panoptic",
        CITYSCAPES,
        (1024, 2048),
        ("PQ", "AP", "mIoU"),
        {
            "resnet50": ("4ab90c", 62.1, 37.3, 77.5),
            "resnet101": ("04d286", 62.4, 37.7, 78.6),
            "swin-tiny": ("ceba0f", 63.9, 39.1, 80.5),
            "swin-small": ("23efb7", 64.8, 40.7, 81.8),
            "swin-base-IN21k": ("fa840f", 66.1, 42.8, 82.7),
            "swin-large": ("064788", 66.6, 43.6, 82.9),
        },
    ),
    **_table(
        "cityscapes",
        "semantic",
        CITYSCAPES,
        (1024, 2048),
        ("mIoU",),
        {
            "resnet50": ("cc1b1f", 79.4),
            "resnet101": ("257ce8", 80.1),
            "swin-tiny": ("2d58d4", 82.1),
            "swin-small": ("fa26ae", 82.6),
            "swin-base-IN21k": ("1c6b65", 83.3),
            "swin-large": ("17c1ee", 83.3),
        },
    ),
    **_table(
        "coco",
        "instance",
        things(COCO),
        (800, 1333),
        ("AP",),
        {
            "resnet50": ("3c8ec9", 43.7),
            "resnet101": ("eba159", 44.2),
            "swin-tiny": ("86143f", 45.0),
            "swin-small": ("1e7f22", 46.3),
            "swin-base": ("f6e0f6", 46.7),
            "swin-base-IN21k": ("83d103", 48.1),
            "swin-large": ("e5f453", 50.1),
        },
    ),
    **_table(
        "coco",
        "panoptic",
        COCO,
        (800, 1333),
        ("PQ", "AP", "mIoU"),
        {
            "resnet50": ("94dc52", 51.9, 41.7, 61.7),
            "resnet101": ("b807bd", 52.6, 42.6, 62.4),
            "swin-tiny": ("9fd0ae", 53.2, 43.3, 63.2),
            "swin-small": ("a407fd", 54.6, 44.7, 64.2),
            "swin-base": ("9d7f02", 55.1, 45.2, 65.1),
            "swin-base-IN21k": ("54b88a", 56.4, 46.3, 67.1),
            "swin-large": ("f07440", 57.8, 48.6, 67.4),
        },
    ),
    **_table(
        "ade",
        "instance",
        things(ADE20K),
        (640, 2560),
        ("AP",),
        {"resnet50": ("67e945", 26.4), "swin-large": ("92dae9", 34.9)},
    ),
    **_table(
        "ade",
        "panoptic",
        ADE20K,
        (640, 2560),
        ("PQ", "AP", "mIoU"),
        {"resnet50": ("5c90d4", 39.7, 26.5, 46.1), "swin-large": ("e0c58e", 48.1, 34.2, 54.5)},
    ),
    **_table(
        "ade",
        "semantic",
        ADE20K,
        (512, 2048),
        ("mIoU",),
        {
            "resnet50": ("500878", 47.2),
            "resnet101": ("0d68be", 47.8),
            "swin-tiny": ("5274a6", 47.7),
            "swin-small": ("011c6d", 51.3),
        },
    ),
    **_table(
        "ade",
        "semantic",
        ADE20K,
        (640, 2560),
        ("mIoU",),
        {
            "swin-base": ("503e96", 52.4),
            "swin-base-IN21k": ("7e47bf", 53.9),
            "swin-large": ("6b4a3a", 56.1),
        },
    ),
    **_table(
        "mapillary-vistas",
        "panoptic",
        MAPILLARY_VISTAS,
        (2048, 2048),
        ("PQ", "mIoU"),
        {"resnet50": ("4e9874", 36.3, 50.7), "swin-large": ("132c71", 45.5, 60.8)},
    ),
    **_table(
        "mapillary-vistas",
        "semantic",
        MAPILLARY_VISTAS,
        (2048, 2048),
        ("mIoU",),
        {"resnet50": ("6c66d0", 57.4), "swin-large": ("90ee2d", 63.2)},
    ),
    **_maskformers(
        "ade",
        "ade",
        "semantic",
        ADE20K,
        (512, 2048),
        {
            "resnet50": ("d8dbeb", 44.5),
            "resnet101": ("1aeb94", 45.5),
            "resnet101c": ("b432ea", 46.0),
            "swin-tiny": ("8657a5", 46.7),
            "swin-small": ("528157", 49.8),
        },
    ),
    **_maskformers(
        "ade",
        "ade",
        "semantic",
        ADE20K,
        (640, 2560),
        {"swin-base": ("45388b", 52.7), "swin-large": ("aefa3b", 54.1)},
    ),
    **_maskformers(
        "ade",
        "ade-panoptic",
        "panoptic",
        ADE20K,
        (640, 2560),
        {"resnet50": ("7aa977", 34.7), "resnet101": ("0b3cc8", 35.7)},
    ),
    **_maskformers(
        "ade-full",
        "ade20k-full",
        "semantic",
        ADE20K_FULL,
        (512, 2048),
        {
            "resnet50": ("f4e3f6", 16.0),
            "resnet101": ("88df33", 16.8),
            "resnet101c": ("75d34e", 17.4),
        },
    ),
    **_maskformers(
        "cityscapes",
        "cityscapes",
        "semantic",
        CITYSCAPES,
        (1024, 2048),
        {"resnet101": ("38c00c", 78.5), "resnet101c": ("4f8ff9", 79.7)},
    ),
    **_maskformers(
        "coco",
        "coco",
        "panoptic",
        COCO,
        (800, 1333),
        {
            "resnet50": ("6f60dc", 46.5),
            "resnet101": ("57b049", 47.6),
            "swin-tiny": ("539394", 47.7),
            "swin-small": ("5bf6b1", 49.7),
            "swin-base": ("4b7f49", 51.8),
            "swin-large": ("7505c4", 52.7),
        },
    ),
    **_maskformers(
        "coco-stuff",
        "coco-stuff",
        "semantic",
        COCO_STUFF,
        (640, 2560),
        {
            "resnet50": ("cb03eb", 37.1),
            "resnet101": ("eb19bb", 38.1),
            "resnet101c": ("bffd25", 38.0),
        },
    ),
    **_maskformers(
        "mapillary-vistas",
        "vistas",
        "semantic",
        MAPILLARY_VISTAS,
        (2048, 2048),
        {"resnet50": ("f3fc73", 53.1)},
    ),
    **_table(
        "youtubevis-2019",
        "instance",
        YOUTUBEVIS_2019,
        (360, 1333),
        ("AP",),
        {
            "resnet50": ("34112b", 46.4),
            "resnet101": ("a34dca", 49.2),
        },
        "video_mask2former",
    ),
    **_table(
        "youtubevis-2019",
        "instance",
        YOUTUBEVIS_2019,
        (480, 1333),
        ("AP",),
        {
            "swin-tiny": ("26fffe", 51.5),
            "swin-small": ("4a5174", 54.3),
            "swin-base-IN21k": ("221a8a", 59.5),
            "swin-large": ("c5c739", 60.4),
        },
        "video_mask2former",
    ),
    **_table(
        "youtubevis-2021",
        "instance",
        YOUTUBEVIS_2021,
        (360, 1333),
        ("AP",),
        {
            "resnet50": ("b8aae2", 40.6),
            "resnet101": ("6efd7a", 42.4),
            "swin-large": ("4da256", 52.6),
        },
        "video_mask2former",
    ),
    **_table(
        "youtubevis-2021",
        "instance",
        YOUTUBEVIS_2021,
        (480, 1333),
        ("AP",),
        {
            "swin-tiny": ("965185", 45.9),
            "swin-small": ("0dec91", 48.6),
            "swin-base-IN21k": ("a9b925", 52.0),
        },
        "video_mask2former",
    ),
}
