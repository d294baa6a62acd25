"""The network from padded pixels to predictions, as a whole or in two halves."""

import functools
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.programs.compiling import Chain, Program
from m2f_jax.inference.programs.devices import Devices
from m2f_jax.modeling.model import Model, check_pixel_values, stage
from m2f_jax.structures import Predictions


def runs_in_halves(model: Model, devices: Devices) -> bool:
    """Returns whether the network is to be two programs: float32 on a CPU, run as ours are.

    There, compiling is what takes the time of a first call, and half of it one processor. The
    results are the same bits: not so in bfloat16, where XLA doesn't round between the stages within
    one program. On a GPU, calling one program takes less. A third program gains no more, and large
    images took 3 % longer with it, since each allocates memory of its own.
    """
    as_ours = type(model).__call__ is Model.__call__
    return devices.are_cpus and as_ours and model.dtype == jnp.float32


def network_program(
    devices: Devices, graph: nnx.GraphDef, processor: ImageProcessor, about: str, *, halves: bool
) -> Program:
    """Returns the network as a program of parameters, padded pixels and sizes.

    Args:
        devices: where it runs.
        graph: the model without its parameters.
        processor: its mean and standard deviation are constants of the program.
        about: the model's part of what the program depends on.
        halves: whether it is two programs, see `runs_in_halves`.
    """
    statistics = processor.mean, processor.std
    about = repr((about, processor))
    if not halves:
        return devices.program("predict", functools.partial(predict, graph, *statistics), about)
    return Chain(
        devices.program("features", functools.partial(features_of, graph, *statistics), about),
        devices.program("decoded", functools.partial(decoded, graph), about),
    )


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


def features_of(
    graph: nnx.GraphDef,
    mean: tuple[float, ...],
    std: tuple[float, ...],
    parameters: Any,
    pixels: UInt8[Array, "B H W 3"],
    sizes: Int[Array, "B 2"],
) -> tuple[Float[Array, "B _ _ _"], ...]:
    """Returns what the backbone makes of padded images: the first half of `predict`."""
    images = normalized(mean, std, pixels, sizes)
    check_pixel_values(images, Model.batch_axes)
    model = nnx.merge(graph, parameters)
    with stage("backbone", model.dtype):
        return model.backbone(images.astype(model.dtype))


def decoded(
    graph: nnx.GraphDef, parameters: Any, features: tuple[Float[Array, "B _ _ _"], ...]
) -> Predictions:
    """Returns predictions from what the backbone made: the second half of `predict`."""
    model = nnx.merge(graph, parameters)
    with stage("pixel_decoder", model.dtype):
        pyramid = model.pixel_decoder(features)
    with stage("decoder", model.dtype):
        return model.decoder(pyramid)


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
