"""The network from padded pixels to predictions, as a whole or stage by stage."""

import functools
import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from m2f_jax.inference.processor import ImageProcessor
from m2f_jax.inference.programs.compiling import Chain, Program
from m2f_jax.inference.programs.devices import Devices
from m2f_jax.modeling.model import Model, check_pixel_values, stage
from m2f_jax.structures import FeaturePyramid, Predictions

SMALL = 2**18  # pixels of a batch whose stages are programs of their own


def runs_in_stages(model: Model, devices: Devices) -> bool:
    """Returns whether the network is to be several programs: float32 on a CPU, run as ours are.

    There, compiling is what takes the time of a first call, and half of it one processor. The
    results are the same bits: not so in bfloat16, where XLA doesn't round between the stages within
    one program. On a GPU, calling one program takes less.
    """
    as_ours = type(model).__call__ is Model.__call__
    return devices.are_cpus and as_ours and model.dtype == jnp.float32


def network_program(
    devices: Devices, graph: nnx.GraphDef, processor: ImageProcessor, about: str, *, stages: bool
) -> Program:
    """Returns the network as a program of parameters, padded pixels and sizes.

    Args:
        devices: where it runs.
        graph: the model without its parameters.
        processor: its mean and standard deviation are constants of the program.
        about: the model's part of what the program depends on.
        stages: whether it is several programs, see `runs_in_stages`.
    """
    statistics = processor.mean, processor.std
    about = repr((about, processor))
    if not stages:
        return devices.program("predict", functools.partial(predict, graph, *statistics), about)
    backbone = devices.program(
        "features", functools.partial(features_of, graph, *statistics), about
    )
    pixel_decoder = devices.program("pyramid", functools.partial(pyramid_of, graph), about)
    decoder = devices.program("predictions", functools.partial(predictions_of, graph), about)
    decoders = devices.program("decoded", functools.partial(decoded, graph), about)
    return BySize(Chain(backbone, pixel_decoder, decoder), Chain(backbone, decoders))


class BySize:
    """Two programs of one function: one for up to `SMALL` pixels, one for more.

    Three programs are compiled and read beside each other in less time than two. But each
    allocates memory of its own in every call, and with three, calls of large images took 3 %
    longer.
    """

    def __init__(self, small: Program, large: Program):
        """Takes both; they get parameters, padded pixels and sizes."""
        self.small, self.large = small, large

    def __call__(self, *arguments: Any) -> Any:
        """Runs the one for these pixels."""
        return self._of(*arguments)(*arguments)

    def ahead(self, *arguments: Any) -> Any:
        """Begins to compile the one for these pixels, see `Program`."""
        return self._of(*arguments).ahead(*arguments)

    def _of(self, _parameters: Any, pixels: Any, _sizes: Any) -> Program:
        *batch, _ = pixels.shape
        return self.small if math.prod(batch) <= SMALL else self.large


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
    """Returns what the backbone makes of padded images."""
    images = normalized(mean, std, pixels, sizes)
    check_pixel_values(images, Model.batch_axes)
    model = nnx.merge(graph, parameters)
    with stage("backbone", model.dtype):
        return model.backbone(images.astype(model.dtype))


def pyramid_of(
    graph: nnx.GraphDef, parameters: Any, features: tuple[Float[Array, "B _ _ _"], ...]
) -> FeaturePyramid:
    """Returns what the pixel decoder makes of the backbone's features."""
    model = nnx.merge(graph, parameters)
    with stage("pixel_decoder", model.dtype):
        return model.pixel_decoder(features)


def predictions_of(graph: nnx.GraphDef, parameters: Any, pyramid: FeaturePyramid) -> Predictions:
    """Returns what the Transformer decoder makes of the pixel decoder's pyramid."""
    model = nnx.merge(graph, parameters)
    with stage("decoder", model.dtype):
        return model.decoder(pyramid)


def decoded(
    graph: nnx.GraphDef, parameters: Any, features: tuple[Float[Array, "B _ _ _"], ...]
) -> Predictions:
    """Returns what both decoders make of the backbone's features."""
    return predictions_of(graph, parameters, pyramid_of(graph, parameters, features))


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
