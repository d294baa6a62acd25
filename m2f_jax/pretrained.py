"""Opens trained models from checkpoints of every known kind, and saves them as folders of ours.

The one module of the package that imports the converter.
"""

import dataclasses
import functools
import logging
import os
import typing
from collections.abc import Mapping, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import DTypeLike

from m2f_jax.config import ModelConfig, Task
from m2f_jax.convert import Checkpoint, open_backbone, open_checkpoint, save_checkpoint
from m2f_jax.convert.files.formats import StoredTensor
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import Label
from m2f_jax.labels.choosing import Classes
from m2f_jax.modeling.kinds import class_of
from m2f_jax.modeling.model import Model
from m2f_jax.modeling.parameters import (
    abstract_model,
    fill,
    parameter_shapes,
    parameters,
    stored_dtype,
)

logger = logging.getLogger("m2f_jax")

DTYPES = ("float32", "bfloat16")
Kind = typing.TypeVar("Kind", bound=Model)


class Pretrained:
    """A trained model, its processor and its segmenter, from one reading of its checkpoint.

    Attributes:
        config: the architecture, the classes and the task.
        processor: the settings of preprocessing and post-processing.
        dtype: of the model's computation and parameters.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: str | jnp.dtype):
        """Takes an open checkpoint, whose tensors the model uses up.

        Raises:
            ValueError: the dtype isn't supported.
        """
        self.dtype = jnp.dtype(dtype)
        if self.dtype.name not in DTYPES:
            raise ValueError(f"dtype is one of {', '.join(DTYPES)}, not {self.dtype.name}")
        self.config = checkpoint.config
        self.processor = checkpoint.processor
        self._tensors = checkpoint.tensors

    @property
    def labels(self) -> tuple[Label, ...]:
        """The classes, in the order of the class indices."""
        return self.config.labels

    @functools.cached_property
    def model(self) -> Model:
        """The model; its parameters are read when it is first asked for."""
        arrays = {
            name: on_device(self._tensors.pop(name), parameter.dtype)
            for name, parameter in parameters(self.abstract).items()
        }
        return fill(self.abstract, arrays)

    @functools.cached_property
    def abstract(self) -> Model:
        """The model with `jax.ShapeDtypeStruct`s in place of its parameters, which aren't read."""
        model = abstract_model(self.config, self.dtype)
        shapes = {
            name: jax.ShapeDtypeStruct(parameter.shape, stored_dtype(parameter, self.dtype))
            for name, parameter in parameters(model).items()
        }
        return fill(model, shapes)

    @functools.cached_property
    def segmenter(self) -> Segmenter:
        """The model and the processor as one function of an image, on the first device."""
        return Segmenter(self.model, self.processor)


def load(
    source: str | os.PathLike,
    dtype: str | jnp.dtype = "float32",
    *,
    labels: Classes | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    kind: type[Model] | None = None,
) -> Pretrained:
    """Opens a trained model: its checkpoint is read once for the model and for its processor.

    Args:
        source: a folder that `save_pretrained` wrote, a Hugging Face folder (config.json with
            model.safetensors or pytorch_model.bin), a Hugging Face hub id, or an authors' .pkl.
        dtype: "float32" or "bfloat16", of the computation and of the parameters.
        labels: the classes, in place of those that the checkpoint names: "cityscapes", "coco",
            "coco-stuff", "ade20k", "ade20k-full", "mapillary", "youtubevis-2019" or
            "youtubevis-2021"; a file with a name per line, or .json with a list of names or of
            COCO's categories; or `Label`s. An authors' file names no classes; they are known if it
            has the name of a published file.
        revision: branch, tag or commit on the hub.
        token: for private repositories on the hub; by default the one you logged in with.
        kind: the class that the model must have, such as `VideoMask2Former`; by default any. An
            authors' file doesn't say whether it is of images or of videos: by default it is of
            images, unless it has the name of a published model of videos.

    Returns:
        The model, its processor, its labels and a segmenter. Parameters are read from the file when
        the model is first asked for.

    Raises:
        FileNotFoundError: `source` is no file, folder or reachable repository.
        ValueError: `source` isn't a model, is damaged, or doesn't fit; `labels` are more or fewer
            than its classes; or the dtype isn't supported.
    """
    checkpoint = open_checkpoint(
        source,
        revision=revision,
        token=token,
        labels=labels,
        kind=None if kind is None else kind.config_class,
    )
    return Pretrained(checkpoint, dtype)


def on_device(tensor: StoredTensor, dtype: DTypeLike) -> jax.Array:
    """Reads a tensor and puts it on the device.

    NumPy converts its dtype: by `jnp.asarray`, JAX would compile a program for every shape.
    """
    return jax.device_put(np.asarray(tensor.read(), dtype))


def load_kind(
    kind: type[Kind],
    source: str | os.PathLike,
    dtype: str | jnp.dtype = "float32",
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Kind:
    """Returns a model of the class `kind`, see `Model.from_pretrained`.

    Raises:
        WrongKindError: the source is a model of another class.
    """
    opened = load(source, dtype, revision=revision, token=token, kind=kind)
    return typing.cast(Kind, opened.model)


CLASS_HEAD = ".class_head."  # part of the names of those parameters that depend on the classes


def start_from(
    source: str | os.PathLike,
    config: ModelConfig,
    seed: int,
    dtype: str | jnp.dtype,
    *,
    revision: str | None = None,
) -> tuple[Model, list[str]]:
    """Returns a model to train, which starts from the float32 parameters of a trained one.

    Args:
        source: as for `m2f_jax.load`; or a backbone trained on ImageNet: a Swin or
            ResNet as a Hugging Face folder or hub id, such as
            microsoft/swin-tiny-patch4-window7-224, or as a file by the Swin authors, detectron2,
            torchvision or timm.
        config: of the new model.
        seed: of the parameters that start afresh.
        dtype: of the computation.
        revision: as for `m2f_jax.load`.

    Returns:
        The model, and the names of the parameters that start afresh. With a trained model, these
        are the class head if the classes differ, and the queries if `config` has more of them (if
        it has fewer, the first are kept). With a backbone alone, these are all others, among them
        the norms of the backbone's outputs, `backbone.norms`.

    Raises:
        FileNotFoundError: `source` is no file, folder or reachable repository.
        ValueError: the trained model has another architecture.
    """
    tensors = open_backbone(source, config, revision=revision)
    if tensors is None:
        checkpoint = open_checkpoint(source, revision=revision)
        tensors = _tensors_to_keep(checkpoint, config, source)
    return _filled_up(tensors, config, seed, dtype)


def load_for_training(
    source: str | os.PathLike,
    labels: Sequence[Label],
    task: Task | None = None,
    *,
    seed: int = 0,
    dtype: str | jnp.dtype = "float32",
    revision: str | None = None,
    token: str | bool | None = None,
) -> tuple[Model, list[str]]:
    """Returns a trained model to be trained further, for these classes.

    All parameters are kept, in float32. Only the class head starts afresh, if the names of the
    classes or their order differ.

    Args:
        source: as for `m2f_jax.load`.
        labels: the classes to learn, such as the `labels` of a data set.
        task: what to learn; by default what the model was trained for.
        seed: of the parameters that start afresh.
        dtype: of the computation.
        revision: as for `m2f_jax.load`.
        token: as for `m2f_jax.load`.

    Returns:
        The model, and the names of the parameters that start afresh.

    Raises:
        FileNotFoundError: `source` is no file, folder or reachable repository.
        ValueError: `source` isn't a trained model, or is damaged.
    """
    checkpoint = open_checkpoint(source, revision=revision, token=token)
    trained = checkpoint.config
    config = dataclasses.replace(trained, labels=tuple(labels), task=task or trained.task)
    return _filled_up(_tensors_to_keep(checkpoint, config, source), config, seed, dtype)


def _filled_up(
    tensors: Mapping[str, StoredTensor], config: ModelConfig, seed: int, dtype: str | jnp.dtype
) -> tuple[Model, list[str]]:
    """Returns a model with these float32 parameters, and the names of those that were drawn."""
    fresh = [name for name in parameter_shapes(config) if name not in tensors]
    arrays = {name: on_device(x, np.float32) for name, x in tensors.items()}
    if fresh:
        drawn = parameters(class_of(config)(config, rngs=nnx.Rngs(seed)))
        arrays |= {name: drawn[name][...] for name in fresh}
    return fill(abstract_model(config, dtype), arrays), fresh


def _tensors_to_keep(
    checkpoint: Checkpoint, config: ModelConfig, source: str | os.PathLike
) -> dict[str, StoredTensor]:
    """Returns the tensors of a trained model that a model of `config` starts from.

    The class head is left out if the classes differ. Of more queries than `config` has, the first
    are kept.

    Raises:
        ValueError: its architecture isn't that of `config`.
    """
    shapes = parameter_shapes(config)
    if more := sorted(set(checkpoint.tensors) - set(shapes)):
        raise ValueError(
            f"{source} can't be trained by this recipe: it has {more[0]}, which the recipe's model "
            "lacks; choose the recipe of the same architecture"
        )
    same_classes = [x.name for x in checkpoint.config.labels] == [x.name for x in config.labels]
    queries = checkpoint.config.decoder.num_queries, config.decoder.num_queries
    if queries[0] > queries[1]:
        logger.warning("%s has %d queries, of which the first %d are kept", source, *queries)
    kept = {}
    for name in sorted(shapes):
        if CLASS_HEAD in name and not same_classes:
            continue
        tensor = checkpoint.tensors.get(name)
        if tensor is not None and _is_of_queries(name, tensor.shape, shapes[name], queries):
            if queries[0] > queries[1]:
                kept[name] = _first(tensor, queries[1])
            continue
        if tensor is None or tensor.shape != shapes[name]:
            raise ValueError(
                f"{source} can't be trained by this recipe: {name} is "
                f"{'missing' if tensor is None else list(tensor.shape)}, and the recipe's is "
                f"{list(shapes[name])}; choose the recipe of the same architecture"
            )
        kept[name] = tensor
    return kept


def _is_of_queries(
    name: str, there: tuple[int, ...], here: tuple[int, ...], queries: tuple[int, int]
) -> bool:
    """Returns whether a parameter of two models differs because their numbers of queries do."""
    counts = there[:1] + here[:1]
    in_decoder = name.startswith("decoder.") and there[1:] == here[1:]
    return in_decoder and there != here and counts == queries


def _first(tensor: StoredTensor, count: int) -> StoredTensor:
    """Returns the first rows of a tensor."""
    return StoredTensor(
        (count, *tensor.shape[1:]), tensor.dtype, lambda: np.asarray(tensor.read())[:count]
    )


def checkpoint_of(model: Model, processor: ImageProcessor | None = None) -> Checkpoint:
    """Returns a model in memory as an open checkpoint, by default with the authors' processor."""
    arrays = {name: value[...] for name, value in parameters(model).items()}
    tensors = {
        name: StoredTensor(
            array.shape, np.dtype(array.dtype), lambda array=array: np.asarray(array)
        )
        for name, array in arrays.items()
    }
    return Checkpoint(model.config, processor or ImageProcessor.for_model(model.config), tensors)


def save_model(model: Model, folder: str | os.PathLike):
    """Writes a model into a folder, see `Model.save_pretrained`."""
    save_checkpoint(checkpoint_of(model), Path(folder))
