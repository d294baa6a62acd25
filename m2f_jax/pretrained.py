"""Trained models from checkpoints of every known kind, and back to folders of ours.

The one module of the package that imports the converter.
"""

import os
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from m2f_jax.convert import Checkpoint, open_checkpoint, save_checkpoint
from m2f_jax.convert.formats import StoredTensor
from m2f_jax.model import Mask2Former, abstract_model, fill, parameters, stored_dtype
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
