"""Guesses what Hugging Face's and the authors' checkpoints don't state: classes and task."""

import re
from collections.abc import Sequence
from typing import get_args

from m2f_jax.config import Mask2FormerConfig, MaskFormerConfig, ModelConfig, Task
from m2f_jax.labels import ADE20K_FULL, COCO, COCO_STUFF, Label, numbered, published_labels


def adopt_labels(names: Sequence[str]) -> tuple[Label, ...]:
    """Returns the published classes that most names agree with; if none, things of these names."""

    def key(name: str) -> str:
        return re.sub(r"[^a-z]", "", name.lower().split(",")[0])

    published = published_labels(len(names))
    if published is not None:
        same = sum(key(a) == key(b.name) for a, b in zip(names, published, strict=True))
        if 2 * same > len(names):
            return published
    return tuple(
        Label(id=label.id, name=name, is_thing=True)
        for label, name in zip(numbered(len(names)), names, strict=True)
    )


def guess_task(
    labels: Sequence[Label],
    num_queries: int,
    name: str,
    origin: str = "",
    *,
    kind: type[ModelConfig] = Mask2FormerConfig,
) -> Task:
    """Guesses the task of a model from its name, its classes, or the model that it came from.

    Of the published models with stuff classes, those with 200 queries are panoptic, and those of
    ADE20K and Mapillary Vistas with 100 are semantic. Those of COCO-Stuff and the full ADE20K are
    semantic. A MaskFormer is never for instances, and panoptic only with COCO's panoptic classes.

    Args:
        labels: the classes.
        num_queries: the number of queries.
        name: of the model: its file, folder or hub id.
        origin: the name of the model that it was trained from, if known.
        kind: the class of its config.
    """
    tasks = re.compile("|".join(get_args(Task)))
    if named := tasks.findall(name.lower()):
        return named[-1]
    if all(label.is_thing for label in labels) and kind is not MaskFormerConfig:
        return "instance"
    if named := tasks.findall(origin.lower()):
        return named[-1]
    if tuple(labels) in (COCO_STUFF, ADE20K_FULL):
        return "semantic"
    if kind is MaskFormerConfig:
        return "panoptic" if len(labels) == len(COCO) else "semantic"
    return "semantic" if num_queries == 100 and len(labels) in (65, 150) else "panoptic"
