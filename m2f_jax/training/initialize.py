"""Fresh parameters, distributed as the authors' code draws them.

Every parameter's name matches exactly one line of a table; the rules are those of the constructors
and `_reset_parameters` of the authors' Swin, MSDeformAttnPixelDecoder, BasePixelDecoder (the FPN)
and MultiScaleMaskedTransformerDecoder, and of PyTorch's own layers where those say nothing.
"""

import math
import re
import zlib
from collections.abc import Callable, Iterable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from m2f_jax.config import FPNPixelDecoderConfig, Mask2FormerConfig, PixelDecoderConfig
from m2f_jax.modeling.mask2former import Mask2Former
from m2f_jax.modeling.parameters import abstract_model, fill, parameter_shapes

Shape = tuple[int, ...]
Initializer = Callable[[np.random.Generator, Shape], np.ndarray]


def zeros(_: np.random.Generator, shape: Shape) -> np.ndarray:
    """Zeros."""
    return np.zeros(shape)


def ones(_: np.random.Generator, shape: Shape) -> np.ndarray:
    """Ones."""
    return np.ones(shape)


def normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """The standard normal distribution."""
    return rng.standard_normal(shape)


def swin_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Swin's normal distribution of standard deviation 0.02.

    timm's trunc_normal_ cuts it off at +-2, a hundred standard deviations away.
    """
    return 0.02 * rng.standard_normal(shape)


def _uniform(rng: np.random.Generator, shape: Shape, bound: float) -> np.ndarray:
    return rng.uniform(-bound, bound, shape)


def _fan_in(shape: Shape) -> int:
    return math.prod(shape[:-1])


def xavier(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """PyTorch's xavier_uniform_ of a linear layer."""
    return _uniform(rng, shape, math.sqrt(6 / (_fan_in(shape) + shape[-1])))


def xavier_of_three(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """The same of queries', keys' and values' projections, which PyTorch keeps in one matrix."""
    return _uniform(rng, shape, math.sqrt(6 / (_fan_in(shape) + 3 * shape[-1])))


def caffe(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Detectron2's c2_xavier_fill: PyTorch's kaiming_uniform_ with a = 1."""
    return _uniform(rng, shape, math.sqrt(3 / _fan_in(shape)))


def torch_default(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """What PyTorch draws a linear layer's weights from, if nobody says otherwise."""
    return _uniform(rng, shape, math.sqrt(1 / _fan_in(shape)))


def torch_default_bias(fan_in: int) -> Initializer:
    """The same for the bias of a layer with so many inputs."""
    return lambda rng, shape: _uniform(rng, shape, math.sqrt(1 / fan_in))


def sampling_directions(num_heads: int, num_points: int, num_levels: int = 3) -> Initializer:
    """Each head looks in a direction of its own, with every point one pixel further."""

    def offsets(_: np.random.Generator, shape: Shape) -> Float[np.ndarray, "offsets"]:
        angle = np.arange(num_heads) * 2 * np.pi / num_heads
        direction = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        direction /= np.abs(direction).max(axis=-1, keepdims=True)
        points = direction[:, None, None] * np.arange(1, num_points + 1)[:, None]
        every_level = np.broadcast_to(points, (num_heads, num_levels, num_points, 2))
        return every_level.reshape(shape)

    return offsets


def pixel_decoder_rules(
    pixel: PixelDecoderConfig | FPNPixelDecoderConfig,
) -> dict[str, Initializer]:
    """The table's lines for the pixel decoder of this kind."""
    if isinstance(pixel, FPNPixelDecoderConfig):
        return {
            r"pixel_decoder\.(top|steps\.\d\.(lateral|output))\.conv\.kernel": caffe,
            r"pixel_decoder\.mask_features\.kernel": caffe,
            r"pixel_decoder\.mask_features\.bias": zeros,
        }
    return {
        r"pixel_decoder\.input_projections\.\d\.linear\.kernel": xavier,
        r"pixel_decoder\.input_projections\.\d\.linear\.bias": zeros,
        r"pixel_decoder\.level_embeddings": normal,
        r"pixel_decoder\.layers\.\d+\.attention\.(sampling_offsets|attention_weights)\.kernel": (
            zeros
        ),
        r"pixel_decoder\.layers\.\d+\.attention\.sampling_offsets\.bias": sampling_directions(
            pixel.num_heads, pixel.num_points
        ),
        r"pixel_decoder\.layers\.\d+\.attention\.(value|output)\.kernel": xavier,
        r"pixel_decoder\.layers\.\d+\.attention\.(attention_weights|value|output)\.bias": zeros,
        r"pixel_decoder\.layers\.\d+\.mlp\.layers\.\d\.kernel": xavier,
        r"pixel_decoder\.layers\.\d+\.mlp\.layers\.0\.bias": torch_default_bias(pixel.dim),
        r"pixel_decoder\.layers\.\d+\.mlp\.layers\.1\.bias": torch_default_bias(pixel.ffn_dim),
        r"pixel_decoder\.(lateral\.linear|output|mask_features)\.kernel": caffe,
        r"pixel_decoder\.mask_features\.bias": zeros,
    }


def rules(config: Mask2FormerConfig) -> dict[str, Initializer]:
    """The table: a pattern of names, and how parameters of such names are drawn."""
    decoder = config.decoder
    return {
        r".*norms?\d?(\.\d+)?\.scale": ones,
        r".*norms?\d?(\.\d+)?\.bias": zeros,
        r"backbone\.patch_embedding\.projection\.kernel": torch_default,
        r"backbone\.patch_embedding\.projection\.bias": torch_default_bias(48),
        r"backbone\.(stages|merges)\..*\.(kernel|relative_position_bias)": swin_normal,
        r"backbone\.stages\..*(qkv|output|layers\.\d)\.bias": zeros,
        **pixel_decoder_rules(config.pixel_decoder),
        r"decoder\.(queries|query_positions|level_embeddings)": normal,
        r"decoder\.layers\.\d+\..*_attention\.(query|key|value)\.kernel": xavier_of_three,
        r"decoder\.layers\.\d+\..*_attention\.output\.kernel": xavier,
        r"decoder\.layers\.\d+\..*_attention\.(query|key|value|output)\.bias": zeros,
        r"decoder\.layers\.\d+\.mlp\.layers\.\d\.kernel": xavier,
        r"decoder\.layers\.\d+\.mlp\.layers\.0\.bias": torch_default_bias(decoder.dim),
        r"decoder\.layers\.\d+\.mlp\.layers\.1\.bias": torch_default_bias(decoder.ffn_dim),
        r"decoder\.heads\.(class_head|mask_head\.layers\.\d)\.kernel": torch_default,
        r"decoder\.heads\.(class_head|mask_head\.layers\.\d)\.bias": torch_default_bias(
            decoder.dim
        ),
    }


def initialize(
    config: Mask2FormerConfig, seed: int = 0, dtype: str | jnp.dtype = "float32"
) -> Mask2Former:
    """A model with fresh float32 parameters that computes in `dtype`."""
    arrays = draw(config, seed, parameter_shapes(config))
    return fill(abstract_model(config, dtype), {k: jnp.asarray(v) for k, v in arrays.items()})


def draw(config: Mask2FormerConfig, seed: int, names: Iterable[str]) -> dict[str, np.ndarray]:
    """Fresh float32 parameters of these names.

    Each depends on the seed and its own name only, so what is drawn for a new head doesn't depend
    on what else is drawn.
    """
    shapes = parameter_shapes(config)
    table = {re.compile(pattern): rule for pattern, rule in rules(config).items()}

    def draw_one(name: str) -> np.ndarray:
        [rule] = [rule for pattern, rule in table.items() if pattern.fullmatch(name)]
        rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
        return rule(rng, shapes[name]).astype(np.float32)

    return {name: draw_one(name) for name in names}
