"""Opens checkpoints of every known kind; each tensor is read when it is accessed."""

import dataclasses
import logging
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from m2f_jax.config import MODEL_TYPE, ModelConfig, Task, VideoMask2FormerConfig
from m2f_jax.inference.processor import PROCESSOR_FILE, ImageProcessor
from m2f_jax.labels import numbered
from m2f_jax.labels.choosing import MAX_CLASSES, NAMED_LABELS, Classes, choose_labels
from m2f_jax.modeling.parameters import parameter_shapes
from m2f_jax.presets import PRESETS, name_of, nearest_preset

from .files.folder import (
    CONFIG_FILE,
    HUGGING_FACE_WEIGHTS,
    WEIGHTS_FILE,
    read_object,
    weights_in,
)
from .files.formats import StoredTensor
from .files.locating import locate
from .guessing import adopt_labels, guess_task
from .tables import authors
from .tables.huggingface import config as huggingface_config
from .tables.huggingface import tensors as huggingface
from .tables.huggingface.json_fields import about, field
from .tables.rules import SAME, Rule, Shape, expand
from .tables.wrappers import HUGGING_FACE_MARK
from .tensors import as_parameters, open_unwrapped, respell_all

logger = logging.getLogger("m2f_jax")

UNFIT = f"{{}} doesn't fit the {CONFIG_FILE} beside it; get both from the same place"


class WrongKindError(ValueError):
    """The error that a model is of another kind than asked for, such as of images."""


class Checkpoint(NamedTuple):
    """An opened checkpoint, with our names and layouts.

    Attributes:
        config: the architecture, the classes and the task.
        processor: the settings of preprocessing and post-processing.
        tensors: by the names of our parameters, each read when it is accessed. `pop` one to release
            it: the tensors of a pickle are in memory.
    """

    config: ModelConfig
    processor: ImageProcessor
    tensors: dict[str, StoredTensor]


def open_checkpoint(
    source: str | os.PathLike,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    task: Task | None = None,
    num_heads: int | None = None,
    labels: Classes | None = None,
    kind: type[ModelConfig] | None = None,
) -> Checkpoint:
    """Opens a checkpoint of this package, of Hugging Face's or of the authors'.

    Args:
        source: a folder that `save_pretrained` wrote, a folder or hub id of Hugging Face's, or an
            authors' file.
        revision: branch, tag or commit on the hub.
        token: for private repositories on the hub; by default the one you logged in with.
        task: what the model was trained for, where the checkpoint doesn't say; by default guessed
            from its name and its classes.
        num_heads: of the attention in both decoders of an authors' file, which doesn't say; 8 by
            default, as in every published model.
        labels: the classes, in place of those that the checkpoint names: "cityscapes", "coco",
            "coco-stuff", "ade20k", "ade20k-full", "mapillary", "youtubevis-2019" or
            "youtubevis-2021", a file as `read_labels` takes, or the labels themselves. An authors'
            file names none; unless it is a published one, its classes are otherwise called
            "class 0", "class 1" and so on.
        kind: the class that the config must have; by default any. An authors' file doesn't say
            whether it is a model of images or of videos; by default, a file that isn't published
            is one of images.

    Raises:
        FileNotFoundError: there is nothing of that name, or the folder lacks a file.
        WrongKindError: it holds a model of another kind.
        ValueError: the checkpoint is damaged, doesn't hold a model, or has another number of
            classes than `labels`.
    """
    path = locate(source, revision, token)
    name = str(source) if path != Path(source) else path.resolve().name
    if path.is_file():
        opened = _open_authors(path, task, 8 if num_heads is None else num_heads, labels, kind)
        return _of_kind(opened, kind, source)
    if num_heads is not None:
        raise ValueError(f"{path}: its {CONFIG_FILE} says how many heads there are; drop num_heads")
    values = read_object(path / CONFIG_FILE)
    origin = values.get("model_type")
    if origin == MODEL_TYPE:
        if task is not None:
            raise ValueError(f"{path}: its {CONFIG_FILE} names its task; drop task")
        return _of_kind(_open_ours(path, labels), kind, source)
    model = huggingface_config.model_named(origin)
    if model is not None:
        return _of_kind(_open_hugging_face(path, values, model, name, task, labels), kind, source)
    known = ", ".join(repr(model.model_type) for model in huggingface_config.MODELS)
    raise ValueError(
        f"{path / CONFIG_FILE}: model_type is {origin!r:.80}; expected one of {MODEL_TYPE!r}, "
        f"{known}"
    )


def _of_kind(
    checkpoint: Checkpoint, kind: type[ModelConfig] | None, source: str | os.PathLike
) -> Checkpoint:
    """Returns the checkpoint if it is of this kind; None allows any.

    Raises:
        WrongKindError: it is of another.
    """
    if kind is None or isinstance(checkpoint.config, kind):
        return checkpoint
    names = [type(checkpoint.config).__name__, kind.__name__]
    found, wanted = (name.removesuffix("Config") for name in names)
    raise WrongKindError(f"{source} is a {found}, not a {wanted}; open it with m2f_jax.{found}")


def _open_ours(folder: Path, classes: Classes | None) -> Checkpoint:
    path = folder / CONFIG_FILE
    config = ModelConfig.load(path)
    if classes is not None:
        labels = choose_labels(classes, config.num_classes, path)
        config = dataclasses.replace(config, labels=labels)
    read_object(folder / PROCESSOR_FILE)
    processor = ImageProcessor.load(folder / PROCESSOR_FILE)
    _check_things(processor, config, folder / PROCESSOR_FILE)
    weights = weights_in(folder, (WEIGHTS_FILE,))
    tensors = open_unwrapped(weights)
    shapes = _parameter_shapes(_no_deeper(config, tensors), path)
    rules = [Rule((name,), (name,), SAME) for name in shapes]
    return Checkpoint(
        config, processor, as_parameters(tensors, rules, shapes, UNFIT.format(weights))
    )


def _open_authors(
    path: Path,
    task: Task | None,
    num_heads: int,
    classes: Classes | None,
    kind: type[ModelConfig] | None,
) -> Checkpoint:
    if path.name in (CONFIG_FILE, *HUGGING_FACE_WEIGHTS) and (path.parent / CONFIG_FILE).is_file():
        raise ValueError(f"{path} is one file of a model; name its folder, {path.parent}")
    tensors = open_unwrapped(path)
    if HUGGING_FACE_MARK in tensors:
        raise ValueError(
            f"{path} holds the weights of transformers' model, and nothing says their "
            "architecture; where it was made, load them into the model and write a folder with "
            f"its config.json: model.load_state_dict(torch.load({path.name!r})); "
            "model.save_pretrained('FOLDER')"
        )
    tensors = respell_all(tensors, authors.spellings(tensors), path)
    shapes = {key: tensor.shape for key, tensor in tensors.items()}
    with about(path):
        count = authors.count_classes(shapes)
        if count > MAX_CLASSES:
            raise ValueError(f"it has {count} classes; at most {MAX_CLASSES} are supported")
        queries = authors.count_queries(shapes)
    published = name_of(path.name) or name_of(path.resolve().name)
    known = PRESETS[published].config if published else None
    if known is not None and known.num_classes != count:
        known = None
    if classes is not None:
        labels = choose_labels(classes, count, path)
    else:
        labels = known.labels if known else numbered(count)
    if kind is VideoMask2FormerConfig:
        task = task or "instance"
    if task is None:
        found = authors.kinds_of(shapes)[0]
        name = path.resolve().name
        task = known.task if known else guess_task(labels, queries, name, kind=found)
    if classes is None and known is None:
        logger.warning(
            "%s doesn't name its %d classes: they are called class 0, class 1 and so on, all of "
            "them things, for %s segmentation at the images' own size; say what they are with "
            "labels (--labels %s or FILE)",
            path,
            count,
            task,
            ", ".join(NAMED_LABELS),
        )
    with about(path):
        if known:
            kind = type(known)
        config = authors.infer_config(shapes, labels, task, num_heads, kind)
    table = authors.table_of(config)
    sizes = _parameter_shapes(config, path)
    unfit = f"{path} isn't, or isn't all of, a model by the authors' code"
    return Checkpoint(
        config,
        ImageProcessor.for_model(config),
        as_parameters(tensors, expand(table.rules, sizes), sizes, unfit, table.unused),
    )


def _open_hugging_face(
    folder: Path,
    values: Mapping[str, Any],
    model: huggingface_config.HuggingFaceModel,
    name: str,
    task: Task | None,
    classes: Classes | None,
) -> Checkpoint:
    where = str(folder / CONFIG_FILE)
    names = huggingface_config.class_names(values, where)
    queries = model.count_queries(values, where)
    origin = field(values, "_name_or_path", str | None, where, None) or ""
    labels = adopt_labels(names) if classes is None else choose_labels(classes, len(names), folder)
    if task is None:
        task = guess_task(labels, queries, name, origin, kind=model.config_class)
    config = huggingface_config.config_from_huggingface(values, labels, task, where)
    processor = _processor(folder, config)
    weights = weights_in(folder, HUGGING_FACE_WEIGHTS)
    table = huggingface.table_of(config)
    tensors = respell_all(open_unwrapped(weights), table.spellings, weights)
    shapes = _parameter_shapes(_no_deeper(config, tensors), folder / CONFIG_FILE)
    rules = expand(table.rules, shapes)
    return Checkpoint(
        config,
        processor,
        as_parameters(tensors, rules, shapes, UNFIT.format(weights), table.unused),
    )


def _parameter_shapes(config: ModelConfig, where: Path) -> dict[str, Shape]:
    """Returns the parameters' shapes of a model whose config comes from a file.

    Raises:
        ValueError: no model can have these sizes; the message begins with `where`.
    """
    try:
        return parameter_shapes(config)
    except Exception as error:
        raise ValueError(f"{where}: no network can have these sizes ({error})") from error


def _no_deeper(config: ModelConfig, tensors: Mapping[str, StoredTensor]) -> ModelConfig:
    """Returns a config with at most one layer more than the weights have.

    That layer's tensors are then reported as missing. To lay out a model of hundreds of layers for
    this would take long.
    """
    numbers = re.compile(r"(?<=\.)[0-9]{1,3}(?=\.)")
    deepest = 2 + max((int(x) for name in tensors for x in numbers.findall(name)), default=0)

    def shallow(part: Any) -> Any:
        changes = {}
        for key, value in vars(part).items():
            if key in ("num_layers", "encoder_layers"):
                changes[key] = min(value, deepest)
            elif key == "depths":
                changes[key] = tuple(min(depth, deepest) for depth in value)
        return dataclasses.replace(part, **changes)

    return dataclasses.replace(
        config,
        **{
            role: shallow(getattr(config, role))
            for role in ("backbone", "pixel_decoder", "decoder")
        },
    )


def _check_things(processor: ImageProcessor, config: ModelConfig, path: Path):
    """Refuses a processor whose classes aren't the model's.

    Raises:
        ValueError: the message names the file.
    """
    wrong = [k for k in processor.thing_classes or () if k >= config.num_classes]
    if wrong:
        raise ValueError(
            f"{path}: thing_classes names class {wrong[0]}, and the model has {config.num_classes}"
        )


def _processor(folder: Path, config: ModelConfig) -> ImageProcessor:
    """Returns the authors' test settings where they published any, else those of the folder."""
    processor = ImageProcessor.for_model(config)
    path = folder / PROCESSOR_FILE
    if not path.is_file():
        return processor
    stored = huggingface_config.processor_from_huggingface(read_object(path), processor, str(path))
    if nearest_preset(config) is None:
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
