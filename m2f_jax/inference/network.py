"""The network from padded pixels to predictions, as one function or as one for each stage."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from m2f_jax.modeling.model import Model, check_pixel_values, stage
from m2f_jax.structures import Predictions


def predict(
    graph: nnx.GraphDef,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    parameters: Any,
    pixels: UInt8[Array, "B H W 3"],
    sizes: Int[Array, "B 2"],
) -> Predictions:
    """Returns predictions for padded images; `sizes` are (height, width) without the padding."""
    return nnx.merge(graph, parameters)(normalized(mean, std, pixels, sizes))


def stage_graphs(model: Model) -> dict[str, nnx.GraphDef]:
    """Returns the graphs of a model's stages, in the order in which they run, by name."""
    names = "backbone", "pixel_decoder", "decoder"
    return {name: nnx.split(getattr(model, name))[0] for name in names}


def stage_functions(
    graphs: Mapping[str, nnx.GraphDef],
    dtype: jnp.dtype,
    mean: tuple[float, ...],
    std: tuple[float, ...],
) -> dict[str, Callable[..., Any]]:
    """Returns functions by the names of stages, which do in turn what `predict` does.

    Each takes its part of the parameters, and what the one before it returns: the first one pixels
    and sizes, as `predict` does.
    """

    def first(name: str, parameters: Any, pixels: Any, sizes: Any) -> Any:
        images = normalized(mean, std, pixels, sizes)
        check_pixel_values(images, Model.batch_axes)
        return later(name, parameters, images.astype(dtype))

    def later(name: str, parameters: Any, inputs: Any) -> Any:
        with stage(name, dtype):
            return nnx.merge(graphs[name], parameters)(inputs)

    return {
        name: functools.partial(first if i == 0 else later, name) for i, name in enumerate(graphs)
    }


def normalized(
    mean: tuple[float, ...],
    std: tuple[float, ...],
    pixels: UInt8[Array, "B H W 3"],
    sizes: Int[Array, "B 2"],
) -> Float[Array, "B H W 3"]:
    """Returns normalised RGB, with 0 in the padding."""
    _, height, width, _ = pixels.shape
    inside_rows = jnp.arange(height) < sizes[:, :1]
    inside_columns = jnp.arange(width) < sizes[:, 1:]
    values = pixels.astype(jnp.float32) - np.asarray(mean, np.float32)
    values = values / np.asarray(std, np.float32)
    return jnp.where(inside_rows[:, :, None, None] & inside_columns[:, None, :, None], values, 0)
