"""The published Mask2Former models on Swin: architecture, test size and scores, as plain data.

Facts from the authors' configuration files and model zoo; names from the Hugging Face hub.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from m2f_jax.config import Mask2FormerConfig, SwinConfig, Task, TransformerDecoderConfig
from m2f_jax.labels import ADE20K, CITYSCAPES, COCO, MAPILLARY_VISTAS, Label, things

HUB_PREFIX = "facebook/mask2former-"  # before a preset's name: its repository on the hub

SWIN_TINY = SwinConfig()
SWIN_SMALL = SwinConfig(depths=(2, 2, 18, 2))
SWIN_BASE = SwinConfig(
    embed_dim=128, depths=(2, 2, 18, 2), num_heads=(4, 8, 16, 32), window_size=12
)
SWIN_LARGE = SwinConfig(
    embed_dim=192, depths=(2, 2, 18, 2), num_heads=(6, 12, 24, 48), window_size=12
)
_BACKBONES = {  # "base" was pretrained on ImageNet-1k, "base-IN21k" and "large" on ImageNet-21k
    "tiny": SWIN_TINY,
    "small": SWIN_SMALL,
    "base": SWIN_BASE,
    "base-IN21k": SWIN_BASE,
    "large": SWIN_LARGE,
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A published model: its architecture, and how it was tested.

    Images were resized to `shortest_edge`, or to less where the other edge would have exceeded
    `longest_edge`. A query took part in a panoptic map if its score exceeded
    `object_mask_threshold`. `scores` are the authors', in percent, on the validation images at that
    single scale: "PQ", "AP" (of masks), "AP50" and "mIoU", as far as the model zoo reports them.
    """

    config: Mask2FormerConfig
    shortest_edge: int
    longest_edge: int
    object_mask_threshold: float
    scores: Mapping[str, float]


def preset(name: str) -> Preset:
    """The published model of this name, with or without "facebook/mask2former-" before it.

    Raises:
        ValueError: no such model; the message says which names come close.
    """
    short = name.removeprefix(HUB_PREFIX)
    if short not in PRESETS:
        close = difflib.get_close_matches(short, PRESETS, n=3)
        hint = f"did you mean {', '.join(close)}?" if close else f"known: {', '.join(PRESETS)}"
        raise ValueError(f"no published model is called {name!r}; {hint}")
    return PRESETS[short]


def nearest_preset(config: Mask2FormerConfig) -> Preset | None:
    """The published model of the same classes and the nearest backbone width; None if there's none.

    It tells how a model of its kind is tested: on ADE20K the size depends on the backbone.
    """

    def distance(preset: Preset) -> int:
        return abs(preset.config.backbone.channels[0] - config.backbone.channels[0])

    same_classes = (p for p in PRESETS.values() if p.config.labels == config.labels)
    return min(same_classes, key=distance, default=None)


def _table(
    dataset: str,
    task: Task,
    labels: tuple[Label, ...],
    test_size: tuple[int, int],
    metrics: tuple[str, ...],
    scores: Mapping[str, tuple[float, ...]],
) -> dict[str, Preset]:
    """The presets of one table of the model zoo; `scores` has a row per backbone."""
    shortest, longest = test_size
    return {
        f"swin-{backbone}-{dataset}-{task}": Preset(
            config=Mask2FormerConfig(
                labels=labels,
                task=task,
                backbone=_BACKBONES[backbone],
                decoder=TransformerDecoderConfig(
                    num_queries=200 if backbone == "large" and task != "semantic" else 100
                ),
            ),
            shortest_edge=shortest,
            longest_edge=longest,
            object_mask_threshold=0.0 if dataset == "mapillary-vistas" else 0.8,
            scores=dict(zip(metrics, row, strict=True)),
        )
        for backbone, row in scores.items()
    }


PRESETS: Mapping[str, Preset] = {
    **_table(
        "cityscapes",
        "instance",
        things(CITYSCAPES),
        (1024, 2048),
        ("AP", "AP50"),
        {
            "tiny": (39.7, 66.9),
            "small": (41.8, 70.4),
            "base-IN21k": (42.0, 68.8),
            "large": (43.7, 71.4),
        },
    ),
    **_table(
        "cityscapes",
        "panoptic",
        CITYSCAPES,
        (1024, 2048),
        ("PQ", "AP", "mIoU"),
        {
            "tiny": (63.9, 39.1, 80.5),
            "small": (64.8, 40.7, 81.8),
            "base-IN21k": (66.1, 42.8, 82.7),
            "large": (66.6, 43.6, 82.9),
        },
    ),
    **_table(
        "cityscapes",
        "semantic",
        CITYSCAPES,
        (1024, 2048),
        ("mIoU",),
        {"tiny": (82.1,), "small": (82.6,), "base-IN21k": (83.3,), "large": (83.3,)},
    ),
    **_table(
        "coco",
        "instance",
        things(COCO),
        (800, 1333),
        ("AP",),
        {
            "tiny": (45.0,),
            "small": (46.3,),
            "base": (46.7,),
            "base-IN21k": (48.1,),
            "large": (50.1,),
        },
    ),
    **_table(
        "coco",
        "panoptic",
        COCO,
        (800, 1333),
        ("PQ", "AP", "mIoU"),
        {
            "tiny": (53.2, 43.3, 63.2),
            "small": (54.6, 44.7, 64.2),
            "base": (55.1, 45.2, 65.1),
            "base-IN21k": (56.4, 46.3, 67.1),
            "large": (57.8, 48.6, 67.4),
        },
    ),
    **_table(
        "ade", "panoptic", ADE20K, (640, 2560), ("PQ", "AP", "mIoU"), {"large": (48.1, 34.2, 54.5)}
    ),
    **_table(
        "ade", "semantic", ADE20K, (512, 2048), ("mIoU",), {"tiny": (47.7,), "small": (51.3,)}
    ),
    **_table(
        "ade",
        "semantic",
        ADE20K,
        (640, 2560),
        ("mIoU",),
        {"base": (52.4,), "base-IN21k": (53.9,), "large": (56.1,)},
    ),
    **_table(
        "mapillary-vistas",
        "panoptic",
        MAPILLARY_VISTAS,
        (2048, 2048),
        ("PQ", "mIoU"),
        {"large": (45.5, 60.8)},
    ),
    **_table(
        "mapillary-vistas",
        "semantic",
        MAPILLARY_VISTAS,
        (2048, 2048),
        ("mIoU",),
        {"large": (63.2,)},
    ),
}
