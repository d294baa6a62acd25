"""The published model that a name, a file or a config means."""

import difflib
from pathlib import PurePath

from m2f_jax.config import ModelConfig
from m2f_jax.presets.definition import HUB_PREFIX, MASKFORMER_HUB_PREFIX, Preset
from m2f_jax.presets.published import PRESETS


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
    """Returns a file's name without its ending."""
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
