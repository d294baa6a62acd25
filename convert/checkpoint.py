"""Opens a checkpoint of any known kind as one of ours, without copying its tensors."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from m2f_jax.config import MODEL_TYPE, Mask2FormerConfig, Task, read_json
from m2f_jax.labels import Label, numbered, published_labels
from m2f_jax.model import parameter_shapes
from m2f_jax.presets import nearest_preset
from m2f_jax.processor import PROCESSOR_FILE, ImageProcessor

from . import huggingface, mask2former
from .formats import StoredTensor, open_tensors
from .hub import CONFIG_FILE, HUGGING_FACE_WEIGHTS, WEIGHTS_FILE, locate
from .rules import SAME, Rule, check, expand

logger = logging.getLogger("m2f_jax")


class Checkpoint(NamedTuple):
    """A model on disk: `tensors` bear our parameters' names and are read when asked for.

    `pop` a tensor to let go of it: where the file is a pickle, it is in memory.
    """

    config: Mask2FormerConfig
    processor: ImageProcessor
    tensors: dict[str, StoredTensor]


def open_checkpoint(
    source: str | os.PathLike,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    task: Task | None = None,
    num_heads: int | None = None,
) -> Checkpoint:
    """Opens a folder of ours, one of Hugging Face's (or its hub id), or an authors' file.

    Args:
        source: the folder, file or hub id.
        revision: branch, tag or commit on the hub.
        token: for private repositories on the hub; by default the one you logged in with.
        task: what the model was trained for, where the checkpoint doesn't say; by default guessed
            from its name and its classes.
        num_heads: of the attention in both decoders of an authors' file, which doesn't say; 8 by
            default, as in every published model.

    Raises:
        FileNotFoundError: there is nothing of that name, or the folder lacks a file.
        ValueError: the checkpoint is damaged, or doesn't hold a Mask2Former on Swin.
    """
    path = locate(source, revision, token)
    name = str(source) if path != Path(source) else path.name
    if path.is_file():
        return _open_authors(path, name, task, num_heads or 8)
    if num_heads is not None:
        raise ValueError(f"{path}: its config.json says how many heads there are; leave it out")
    config_file = path / CONFIG_FILE
    if not config_file.is_file():
        raise FileNotFoundError(
            f"{path} has no {CONFIG_FILE}; expected one beside {WEIGHTS_FILE}, or name a .pkl file"
        )
    values = read_json(config_file)
    kind = values.get("model_type") if isinstance(values, Mapping) else None
    if kind == MODEL_TYPE:
        if task is not None:
            raise ValueError(f"{path}: its config.json says what it was trained for; leave it out")
        return _open_ours(path)
    if kind == "mask2former":
        return _open_hugging_face(path, values, name, task)
    raise ValueError(
        f'{config_file}: model_type is {kind!r}; expected "{MODEL_TYPE}" or "mask2former"'
    )


def _open_ours(folder: Path) -> Checkpoint:
    config = Mask2FormerConfig.load(folder / CONFIG_FILE)
    weights = folder / WEIGHTS_FILE
    tensors = open_tensors(weights)
    rules = [Rule((name,), (name,), SAME) for name in parameter_shapes(config)]
    return Checkpoint(
        config,
        ImageProcessor.load(folder / PROCESSOR_FILE),
        _convert(tensors, rules, config, (), str(weights)),
    )


def _open_authors(path: Path, name: str, task: Task | None, num_heads: int) -> Checkpoint:
    tensors = _respelled(open_tensors(path), mask2former.SPELLINGS, str(path))
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    classes = shapes.get(f"{mask2former.PREDICTOR}.class_embed.weight", (1,))[0] - 1
    queries = shapes.get(f"{mask2former.PREDICTOR}.query_feat.weight", (0,))[0]
    labels = published_labels(classes) or numbered(classes)
    task = task or guess_task(labels, queries, name)
    try:
        config = mask2former.infer_config(shapes, labels, task, num_heads)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Checkpoint(
        config,
        ImageProcessor.for_model(config),
        _convert(tensors, mask2former.RULES, config, mask2former.UNUSED, str(path)),
    )


def _open_hugging_face(
    folder: Path, values: Mapping[str, Any], name: str, task: Task | None
) -> Checkpoint:
    try:
        names = huggingface.class_names(values)
        labels = adopt_labels(names)
        hint = f"{values.get('_name_or_path', '')} {name}"
        task = task or guess_task(labels, huggingface.field(values, "num_queries"), hint)
        config = huggingface.config_from_huggingface(values, labels, task)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    weights = next((folder / f for f in HUGGING_FACE_WEIGHTS if (folder / f).is_file()), None)
    if weights is None:
        raise FileNotFoundError(f"{folder} has none of {', '.join(HUGGING_FACE_WEIGHTS)}")
    tensors = _respelled(open_tensors(weights), huggingface.SPELLINGS, str(weights))
    return Checkpoint(
        config,
        _processor(folder, config),
        _convert(tensors, huggingface.RULES, config, huggingface.UNUSED, str(weights)),
    )


def _processor(folder: Path, config: Mask2FormerConfig) -> ImageProcessor:
    """The authors' test settings where they published any, else those of the folder."""
    processor = ImageProcessor.for_model(config)
    path = folder / PROCESSOR_FILE
    if not path.is_file():
        return processor
    published = nearest_preset(config)
    stored = huggingface.processor_from_huggingface(read_json(path), processor)
    if published is None:
        return stored
    if (stored.shortest_edge, stored.longest_edge) != (
        processor.shortest_edge,
        processor.longest_edge,
    ):
        logger.warning(
            "%s asks for another input size than the authors tested with; using theirs, shortest "
            "edge %d and longest %d (set others with ImageProcessor)",
            path,
            processor.shortest_edge,
            processor.longest_edge,
        )
    return processor


def adopt_labels(names: Sequence[str]) -> tuple[Label, ...]:
    """Published classes if the names are mostly theirs, else numbered things of these names."""

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


def guess_task(labels: Sequence[Label], num_queries: int, hint: str) -> Task:
    """What a model was trained for, from what it's called, else from its classes.

    Of the published models with stuff classes, those with 200 queries are panoptic, and those of
    ADE20K and Mapillary Vistas with 100 are semantic.
    """
    if all(label.is_thing for label in labels):
        return "instance"
    if found := re.findall(r"instance|panoptic|semantic", hint):
        return found[-1]
    return "semantic" if num_queries == 100 and len(labels) in (65, 150) else "panoptic"


def _respelled(
    tensors: dict[str, StoredTensor], spellings: Iterable[tuple[str, str]], where: str
) -> dict[str, StoredTensor]:
    """The tensors under their standard names."""
    result: dict[str, StoredTensor] = {}
    for original, tensor in tensors.items():
        name = original
        for pattern, replacement in spellings:
            name = re.sub(f"^{pattern}", replacement, name)
        if name in result:
            raise ValueError(f"{where} holds {name} twice, once as {original}")
        result[name] = tensor
    return result


def _convert(
    source: dict[str, StoredTensor],
    rules: Iterable[Rule],
    config: Mask2FormerConfig,
    unused: Iterable[str],
    where: str,
) -> dict[str, StoredTensor]:
    """Our tensors, each of which reads and rearranges theirs when it's read."""
    target = parameter_shapes(config)
    expanded = expand(rules, target)
    shapes = {name: tensor.shape for name, tensor in source.items()}
    check(expanded, shapes, target, unused, where=where)
    return {
        name: tensor
        for rule in expanded
        for name, tensor in apply(rule.layout.load, rule.theirs, rule.ours, source, target).items()
    }


def apply(
    rearrange: Callable[[tuple[np.ndarray, ...]], tuple[np.ndarray, ...]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    source: Mapping[str, StoredTensor],
    shapes: Mapping[str, tuple[int, ...]],
) -> dict[str, StoredTensor]:
    """The outputs of one rule as tensors that are read on demand."""
    needed = tuple(source[name] for name in inputs)

    def reader(i: int) -> Callable[[], np.ndarray]:
        return lambda: rearrange(tuple(tensor.read() for tensor in needed))[i]

    return {
        name: StoredTensor(shapes[name], needed[0].dtype, reader(i))
        for i, name in enumerate(outputs)
    }
