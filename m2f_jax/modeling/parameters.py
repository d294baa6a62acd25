"""A model's parameters by name: their shapes without a model, and a model made from arrays."""

import functools
import os
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from m2f_jax.config import ModelConfig
from m2f_jax.modeling.kinds import class_of
from m2f_jax.modeling.model import Model


def parameters(model: Model) -> dict[str, nnx.Param]:
    """Returns the parameters by dotted name, such as "backbone.norms.0.scale"."""
    return {".".join(map(str, path)): value for path, value in nnx.to_flat_state(nnx.state(model))}


class _OneKey(nnx.Rngs):
    """An nnx.Rngs that always gives the same key, where only shapes matter: splitting is slow."""

    def __init__(self, key: jax.Array):
        self.key = key

    def params(self) -> jax.Array:
        return self.key


def abstract_model(config: ModelConfig, dtype: str | jnp.dtype = "float32") -> Model:
    """Returns the model with shapes in place of arrays; nothing is computed or compiled for it."""
    graph, state = _abstract_parts(config, jnp.dtype(dtype))
    return nnx.merge(graph, jax.tree.map(lambda x: x, state))  # with parameters of its own


@functools.lru_cache(maxsize=8)
def _abstract_parts(config: ModelConfig, dtype: jnp.dtype) -> tuple[Any, Any]:
    """Returns the graph and the state of `abstract_model`, laid out once."""
    key = jax.eval_shape(jax.random.key, 0)
    model = nnx.eval_shape(
        lambda key: class_of(config)(config, dtype=dtype, rngs=_OneKey(key)), key
    )
    return nnx.split(model)


@functools.lru_cache(maxsize=8)
def parameter_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shape of every parameter by name."""
    return {name: value.shape for name, value in parameters(abstract_model(config)).items()}


def trained_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Returns the shapes of the parameters that training changes, by name: all but frozen ones."""
    return {
        name: value.shape
        for name, value in parameters(abstract_model(config)).items()
        if not value.get_metadata().get("frozen", False)
    }


def fill(
    abstract: Model, arrays: Mapping[str, jax.Array] | Mapping[str, jax.ShapeDtypeStruct]
) -> Model:
    """Returns the model with these parameters; every one of them must be given, by name."""
    graph, state = nnx.split(abstract)
    flat = [
        (path, value.replace(arrays[".".join(map(str, path))]))
        for path, value in nnx.to_flat_state(state)
    ]
    return nnx.merge(graph, nnx.from_flat_state(flat))


def stored_dtype(parameter: nnx.Param, dtype: jnp.dtype) -> jnp.dtype:
    """Returns a parameter's dtype for inference: float32 where its metadata has `exact=True`."""
    exact = parameter.get_metadata().get("exact", False)
    return jnp.dtype(jnp.float32) if exact else dtype


def check_finite(name: str, values: np.ndarray | jax.Array, where: str | os.PathLike):
    """Refuses an array of a checkpoint with numbers that aren't finite in float32.

    Args:
        name: of the tensor or parameter, for the message.
        values: of any shape and kind of numbers; of an array that is spread over several processes,
            this one's part is checked.
        where: the file or folder, for the message.

    Raises:
        ValueError: some are NaN or infinite, or beyond float32.
    """
    spread = isinstance(values, jax.Array)
    for part in [shard.data for shard in values.addressable_shards] if spread else [values]:
        array = np.asarray(part)
        if array.dtype.kind in "biu":
            continue
        with np.errstate(over="ignore"):
            is_finite = np.isfinite(array.astype(np.float32) if array.itemsize > 4 else array)
        if wrong := array.size - np.count_nonzero(is_finite):
            first = np.unravel_index(np.argmin(is_finite), array.shape)
            raise ValueError(
                f"{where}: {wrong} of the {array.size} numbers of {name} aren't finite, such as "
                f"{array[first]}; the training that wrote it had diverged, or the file is damaged: "
                "take an earlier checkpoint, or get the file again"
            )
