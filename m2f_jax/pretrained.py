"""Trained models from checkpoints of every known kind, and back to folders of ours.

The one module of the package that imports the converter.
"""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from m2f_jax.config import Mask2FormerConfig
from m2f_jax.convert import Checkpoint, open_checkpoint, save_checkpoint
from m2f_jax.convert.formats import StoredTensor
from m2f_jax.model import (
    Mask2Former,
    abstract_model,
    fill,
    parameter_shapes,
    parameters,
    stored_dtype,
)
from m2f_jax.processor import ImageProcessor

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
        source: as for `Mask2Former.from_pretrained`.
        config: of the new model.
        seed: of the parameters that start afresh.
        dtype: of the computation.
        revision: as for `Mask2Former.from_pretrained`.

    Returns:
        The model, and the names of the parameters that start afresh, which is the head of classes
        if they differ.

    Raises:
        ValueError: the trained model has another architecture.
    """
    from m2f_jax.training.initialize import draw

    checkpoint = load_checkpoint(source, revision, None)
    shapes = parameter_shapes(config)
    same_classes = [x.name for x in checkpoint.config.labels] == [x.name for x in config.labels]
    fresh = [name for name in shapes if name.startswith(CLASS_HEAD) and not same_classes]
    for name in sorted(set(shapes) - set(fresh)):
        there = checkpoint.tensors[name].shape if name in checkpoint.tensors else None
        if there != shapes[name]:
            raise ValueError(
                f"{source} can't be trained by this recipe: {name} is "
                f"{'missing' if there is None else list(there)}, and the recipe's is "
                f"{list(shapes[name])}; choose the recipe of the same architecture"
            )
    arrays = {
        name: jnp.asarray(checkpoint.tensors[name].read(), jnp.float32)
        for name in shapes
        if name not in fresh
    }
    arrays |= {name: jnp.asarray(x) for name, x in draw(config, seed, fresh).items()}
    return fill(abstract_model(config, dtype), arrays), fresh


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
