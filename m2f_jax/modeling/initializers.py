"""Initial values of parameters, distributed as the authors' code draws them.

The rules are those of the constructors and `_reset_parameters` of the authors' Swin,
MSDeformAttnPixelDecoder, BasePixelDecoder (the FPN) and MultiScaleMaskedTransformerDecoder, and of
PyTorch's layers where those say nothing. Which parameter has which is said where it is made.

NumPy draws the values and `device_put` moves them to the device: `jax.random` and `jnp.asarray`
would each compile a program for every shape.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

Shape = tuple[int, ...]
Draw = Callable[[np.random.Generator, Shape], np.ndarray]
Initializer = Callable[..., jax.Array]  # of a key, a shape and a dtype, float32 by default


def initializer(draw: Draw) -> Initializer:
    """Returns the initializer that draws values by `draw`, with a generator of NumPy's."""
    return functools.partial(_draw, draw)


def _draw(draw: Draw, key: jax.Array, shape: Shape, dtype: Any = jnp.float32) -> jax.Array:
    on_host = functools.partial(_draw_on_host, draw, shape, dtype)
    seed = jax.random.key_data(key)
    if isinstance(seed, Tracer):
        result = jax.ShapeDtypeStruct(shape, dtype)
        return jax.pure_callback(on_host, result, seed, vmap_method="sequential")
    return jax.device_put(on_host(seed))


def _draw_on_host(draw: Draw, shape: Shape, dtype: Any, seed: jax.typing.ArrayLike) -> np.ndarray:
    return draw(np.random.default_rng(np.asarray(seed)), shape).astype(dtype)


def constant(values: Callable[[Shape], np.ndarray]) -> Initializer:
    """Returns the initializer whose values depend on the shape alone."""
    return functools.partial(_fill, values)


def _fill(
    values: Callable[[Shape], np.ndarray], key: jax.Array, shape: Shape, dtype: Any = jnp.float32
) -> jax.Array:
    if isinstance(key, Tracer):  # perhaps of shapes alone, which may be larger than memory
        on_host = functools.partial(_values_on_host, values, shape, dtype)
        return jax.pure_callback(on_host, jax.ShapeDtypeStruct(shape, dtype))
    return jax.device_put(_values_on_host(values, shape, dtype))


def _values_on_host(values: Callable[[Shape], np.ndarray], shape: Shape, dtype: Any) -> np.ndarray:
    return values(shape).astype(dtype)


def uniform(bound_of: Callable[[Shape], float]) -> Initializer:
    """Returns the initializer that is uniform within plus and minus a bound, given the shape."""
    return initializer(functools.partial(_draw_uniform, bound_of))


def _draw_uniform(
    bound_of: Callable[[Shape], float], rng: np.random.Generator, shape: Shape
) -> np.ndarray:
    values = rng.random(shape, np.float32)
    values -= 0.5
    values *= 2 * bound_of(shape)
    return values


def fan_in(shape: Shape) -> int:
    """Returns the number of inputs of each output of a linear layer or a convolution."""
    return math.prod(shape[:-1])


zeros = constant(np.zeros)
ones = constant(np.ones)
normal = initializer(lambda rng, shape: rng.standard_normal(shape, np.float32))

# Swin's; timm's trunc_normal_ cuts it off at +-2, a hundred standard deviations away.
swin_normal = initializer(
    lambda rng, shape: np.float32(0.02) * rng.standard_normal(shape, np.float32)
)

# PyTorch's xavier_uniform_; and the same of the projections of queries, keys and values, which
# PyTorch keeps in one matrix.
xavier = uniform(lambda shape: math.sqrt(6 / (fan_in(shape) + shape[-1])))
xavier_of_three = uniform(lambda shape: math.sqrt(6 / (fan_in(shape) + 3 * shape[-1])))

# Detectron2's c2_xavier_fill, which is PyTorch's kaiming_uniform_ with a = 1.
caffe = uniform(lambda shape: math.sqrt(3 / fan_in(shape)))

# Detectron2's c2_msra_fill: PyTorch's kaiming_normal_ by the number of outputs.
kaiming_fan_out = initializer(
    lambda rng, shape: (
        np.float32(math.sqrt(2 / (math.prod(shape[:-2]) * shape[-1])))
        * rng.standard_normal(shape, np.float32)
    )
)

# PyTorch's default for the weights of a layer.
torch_default = uniform(lambda shape: math.sqrt(1 / fan_in(shape)))


def torch_default_bias(inputs: int) -> Initializer:
    """Returns PyTorch's default for the bias of a layer with this number of inputs."""
    return uniform(lambda _: math.sqrt(1 / inputs))


def sampling_directions(num_heads: int, num_levels: int, num_points: int) -> Initializer:
    """Returns MSDeformAttn's initial offsets: a direction per head, each point a pixel further."""

    def offsets(shape: Shape) -> np.ndarray:
        angle = np.arange(num_heads) * 2 * np.pi / num_heads
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        direction /= np.abs(direction).max(axis=-1, keepdims=True)
        points = direction[:, None, None] * np.arange(1, num_points + 1)[:, None]
        every_level = np.broadcast_to(points, (num_heads, num_levels, num_points, 2))
        return every_level.reshape(shape)

    return constant(offsets)
