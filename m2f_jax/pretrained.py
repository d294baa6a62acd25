"""Trained models from checkpoints of every known kind, and back to folders of ours.

The one module of the package that imports the converter.
"""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np
from flax import nnx

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.convert import Checkpoint, open_backbone, open_checkpoint, save_checkpoint
from m2f_jax.convert.files.formats import StoredTensor
from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.parameters import (
    abstract_model,
    fill,
    parameter_shapes,
    parameters,
    stored_dtype,
)

DTYPES = ("float32", "bfloat16")


def load_model(checkpoint: Checkpoint, dtype: str | jnp.dtype) -> Mask2Former:
    """The model of an open checkpoint, whose tensors are used up.

    Raises:
        ValueError: the dtype isn't supported.
    """
    dtype = jnp.dtype(dtype)
    if dtype.name not in DTYPES:
        raise ValueError(f"dtype is one of {', '.join(DTYPES)}, not {dtype.name}")
    abstract = abstract_model(checkpoint.config, dtype)
    arrays = {
        name: jnp.asarray(checkpoint.tensors.pop(name).read(), stored_dtype(name, dtype))
        for name in parameters(abstract)
    }
    return fill(abstract, arrays)


def load_checkpoint(
    source: str | os.PathLike, revision: str | None, token: str | bool | None
) -> Checkpoint:
    """What every `from_pretrained` begins with."""
    return open_checkpoint(source, revision=revision, token=token)


CLASS_HEAD = "decoder.heads.class_head."


def start_from(
    source: str | os.PathLike,
    config: Mask2FormerConfig,
    seed: int,
    dtype: str | jnp.dtype,
    *,
    revision: str | None = None,
) -> tuple[Mask2Former, list[str]]:
    """A model to train on, with float32 parameters of a trained one; its head for other classes.

    Args:
        source: as for `Mask2Former.from_pretrained`; or a Swin trained on ImageNet, as a Hugging
            Face folder or hub id, such as microsoft/swin-tiny-patch4-window7-224, or a file by the
            Swin authors.
        config: of the new model.
        seed: of the parameters that start afresh.
        dtype: of the computation.
        revision: as for `Mask2Former.from_pretrained`.

    Returns:
        The model, and the names of the parameters that start afresh: of a trained Mask2Former, the
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
        drawn = parameters(Mask2Former(config, rngs=nnx.Rngs(seed)))
        arrays |= {name: drawn[name][...] for name in fresh}
    return fill(abstract_model(config, dtype), arrays), fresh


def _tensors_to_keep(
    source: str | os.PathLike, config: Mask2FormerConfig, revision: str | None
) -> dict[str, StoredTensor]:
    """Those of a trained Mask2Former, without its head of classes if `config` has others.

    Raises:
        ValueError: its architecture isn't that of `config`.
    """
    checkpoint = load_checkpoint(source, revision, None)
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


def save_model(model: Mask2Former, folder: str | os.PathLike):
    """`Mask2Former.save_pretrained`; a processor that is there already is kept."""
    arrays = {name: value[...] for name, value in parameters(model).items()}
    tensors = {
        name: StoredTensor(
            array.shape, np.dtype(array.dtype), lambda array=array: np.asarray(array)
        )
        for name, array in arrays.items()
    }
    save_checkpoint(
        Checkpoint(model.config, ImageProcessor.for_model(model.config), tensors), Path(folder)
    )
