"""Opens trained models from checkpoints of every known kind, and saves them as folders of ours.

The one module of the package that imports the converter.
"""

import functools
import os
import typing
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from m2f_jax.config import ModelConfig
from m2f_jax.convert import Checkpoint, open_backbone, open_checkpoint, save_checkpoint
from m2f_jax.convert.files.class_names import Classes
from m2f_jax.convert.files.formats import StoredTensor
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.segmenter import Segmenter
from m2f_jax.labels import Label
from m2f_jax.modeling.kinds import class_of
from m2f_jax.modeling.model import Model
from m2f_jax.modeling.parameters import (
    abstract_model,
    fill,
    parameter_shapes,
    parameters,
    stored_dtype,
)

DTYPES = ("float32", "bfloat16")
Kind = typing.TypeVar("Kind", bound=Model)


class Pretrained:
    """A trained model and what belongs to it, from one reading of its checkpoint.

    Attributes:
        config: the architecture, the classes and the task.
        processor: what happens before and after the network.
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
        abstract = abstract_model(self.config, self.dtype)
        arrays = {
            name: jnp.asarray(self._tensors.pop(name).read(), stored_dtype(parameter, self.dtype))
            for name, parameter in parameters(abstract).items()
        }
        return fill(abstract, arrays)

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
            "coco-stuff", "ade20k", "ade20k-full" or "mapillary"; a file with a name per line, or
            .json with a list of names or of COCO's categories; or labels. An authors' file names
            none, and is known only by the name of a published one.
        revision: branch, tag or commit on the hub.
        token: for private repositories on the hub; by default the one you logged in with.
        kind: the class that the model must be of, such as `VideoMask2Former`, of which an authors'
            file doesn't tell; by default any, and an authors' file of no known name is of images.

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


def load_kind(
    kind: type[Kind],
    source: str | os.PathLike,
    dtype: str | jnp.dtype = "float32",
    *,
    revision: str | None = None,
    token: str | bool | None = None,
) -> Kind:
    """Returns what `kind.from_pretrained` says: a model of that class, or ValueError."""
    opened = load(source, dtype, revision=revision, token=token, kind=kind)
    return typing.cast(Kind, opened.model)


CLASS_HEAD = "decoder.heads.class_head."


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
        The model, and the names of the parameters that start afresh: of a trained model, the
        head of classes if they differ; of a backbone alone, all the others, of which the norms of
        its outputs are called `backbone.norms`.

    Raises:
        FileNotFoundError: `source` is no file, folder or reachable repository.
        ValueError: the trained model has another architecture.
    """
    shapes = parameter_shapes(config)
    tensors = open_backbone(source, config, revision=revision)
    if tensors is None:
        tensors = _tensors_to_keep(source, config, revision)
    fresh = [name for name in shapes if name not in tensors]
    arrays = {name: jnp.asarray(x.read(), jnp.float32) for name, x in tensors.items()}
    if fresh:
        drawn = parameters(class_of(config)(config, rngs=nnx.Rngs(seed)))
        arrays |= {name: drawn[name][...] for name in fresh}
    return fill(abstract_model(config, dtype), arrays), fresh


def _tensors_to_keep(
    source: str | os.PathLike, config: ModelConfig, revision: str | None
) -> dict[str, StoredTensor]:
    """Returns the tensors of a trained model, without its class head for other classes.

    Raises:
        ValueError: its architecture isn't that of `config`.
    """
    checkpoint = open_checkpoint(source, revision=revision)
    shapes = parameter_shapes(config)
    same_classes = [x.name for x in checkpoint.config.labels] == [x.name for x in config.labels]
    kept = [name for name in shapes if same_classes or not name.startswith(CLASS_HEAD)]
    for name in sorted(kept):
        there = checkpoint.tensors[name].shape if name in checkpoint.tensors else None
        if there != shapes[name]:
            raise ValueError(
                f"{source} can't be trained by this recipe: {name} is "
                f"{'missing' if there is None else list(there)}, and the recipe's is "
                f"{list(shapes[name])}; choose the recipe of the same architecture"
            )
    return {name: checkpoint.tensors[name] for name in kept}


def checkpoint_of(model: Model, processor: ImageProcessor | None = None) -> Checkpoint:
    """Returns a model in memory as an open checkpoint; by default tested as the authors do."""
    arrays = {name: value[...] for name, value in parameters(model).items()}
    tensors = {
        name: StoredTensor(
            array.shape, np.dtype(array.dtype), lambda array=array: np.asarray(array)
        )
        for name, array in arrays.items()
    }
    return Checkpoint(model.config, processor or ImageProcessor.for_model(model.config), tensors)


def save_model(model: Model, folder: str | os.PathLike):
    """Does what `Model.save_pretrained` says."""
    save_checkpoint(checkpoint_of(model), Path(folder))
