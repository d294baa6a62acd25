"""What lies in memory: for a gradient nothing cheap to compute again, on a CPU one hidden layer."""

import re

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from m2f_jax.config import PixelDecoderConfig
from m2f_jax.modeling.layers import MLP, gelu, layer_norm, relu
from m2f_jax.modeling.pixel_decoders.deformable import MSDeformAttn
from m2f_jax.ops.attention import dot_product_attention
from m2f_jax.ops.ms_deform_attn import ms_deform_attn
from m2f_jax.ops.window_attention import window_attention
from m2f_jax.structures import LayerPredictions, Targets
from m2f_jax.training import LossConfig, loss

pytestmark = pytest.mark.optimized


def array(*shape, dtype=jnp.bfloat16):
    return jax.ShapeDtypeStruct(shape, dtype)


def size(arrays) -> int:
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(arrays))


def kept(function, *arrays) -> list[jax.ShapeDtypeStruct]:
    """What lies in memory between forward and backward: a derivative holds all that it needs."""
    _, derivative = jax.eval_shape(lambda *x: jax.vjp(function, *x), *arrays)
    return jax.tree.leaves(derivative)


def kept_by_module(module, *arrays, **settings) -> list[jax.ShapeDtypeStruct]:
    graph, parameters = nnx.split(module)
    return kept(lambda p, *x: nnx.merge(graph, p)(*x, **settings), parameters, *arrays)


def window(qkv, padding, bias):
    return window_attention(qkv, padding, bias, window_size=12, shifted=False)


def deform(values, locations, weights):
    return ms_deform_attn(values, ((8, 8), (16, 16)), locations, weights)


@pytest.mark.parametrize(
    ("attend", "arrays"),
    [
        (window, (array(1, 48, 48, 96), array(96), array(2, 144, 144))),
        (
            dot_product_attention,
            (array(1, 8, 100, 32), *[array(1, 8, 512, 32)] * 2, array(1, 100, 512, dtype=bool)),
        ),
        (
            deform,
            (
                array(1, 320, 8, 32),
                array(1, 320, 8, 2, 4, 2, dtype=jnp.float32),
                array(1, 320, 8, 2, 4, dtype=jnp.float32),
            ),
        ),
    ],
)
def test_attention_keeps_its_arguments_only(attend, arrays):
    assert size(kept(attend, *arrays)) <= size(arrays)


@pytest.mark.parametrize("activation", [gelu, relu])
def test_an_mlp_keeps_what_activations_get(activation):
    dims = (64, 256, 256, 64)
    mlp = MLP(dims, activation=activation, dtype=jnp.dtype("bfloat16"), rngs=nnx.Rngs(0))
    x, inner = array(4096, 64), array(4096, 256)
    weights = 2 * size(nnx.state(mlp))  # as they are and in bfloat16
    assert size(kept_by_module(mlp, x)) <= size([x, inner, inner]) + weights


def test_an_mlp_takes_one_hidden_layer_on_a_cpu():
    """Its products are apart, and what is activated takes the place of what was."""
    width, tokens, float32 = 256, 10752, jnp.dtype("float32")
    mlp = MLP((width, 4 * width, width), activation=relu, dtype=float32, rngs=nnx.Rngs(0))
    norm = layer_norm(width, dtype=float32, rngs=nnx.Rngs(0))
    graph, parameters = nnx.split((mlp, norm))

    def layer(parameters, x):
        mlp, norm = nnx.merge(graph, parameters)
        return norm(x + mlp(x))

    x = array(1, tokens, width, dtype=float32)
    with jax.default_device(jax.devices("cpu")[0]), jax.default_matmul_precision("highest"):
        compiled = jax.jit(layer).lower(parameters, x).compile()
    hidden = size(array(tokens, 4 * width, dtype=float32))
    assert compiled.memory_analysis().temp_size_in_bytes < 1.6 * hidden
    products = [len(re.findall(r" dot\(", body)) for body in compiled.as_text().split("\n}")]
    assert sum(products) == 2
    assert max(products) == 1


def test_deformable_attention_keeps_no_queries_in_float32():
    attention = MSDeformAttn(PixelDecoderConfig(), dtype=jnp.dtype("bfloat16"), rngs=nnx.Rngs(0))

    x = array(1, 1344, 256)
    arrays = kept_by_module(attention, x, x, sizes=((8, 8), (16, 16), (32, 32)))
    found = {(x.shape, x.dtype.name) for x in arrays}
    assert (x.shape, "bfloat16") in found
    assert (x.shape, "float32") not in found


@pytest.mark.parametrize(
    "config",
    [
        LossConfig(num_points=64),
        LossConfig(num_points=None, pixels="images", mask_term="focal"),  # one target at a time
    ],
)
def test_no_mask_of_a_query_without_a_target_is_made(config, equations):
    layers, batch, queries, targets, side = 10, 1, 100, 20, 32
    predictions = LayerPredictions(
        array(layers, batch, queries, 5, dtype=jnp.float32),
        array(layers, batch, queries, 16),
        array(batch, side, side, 16),
    )
    goal = Targets(
        array(batch, targets, dtype=jnp.int32),
        array(batch, targets, 4 * side, 4 * side, dtype=bool),
        array(batch, targets, dtype=bool),
    )

    def total(predictions, goal):
        return loss(predictions, goal, config, key=jax.random.key(0)).total

    jaxpr = jax.make_jaxpr(jax.grad(total))(predictions, goal)
    largest = max(x.aval.size for equation in equations(jaxpr) for x in equation.outvars)
    assert largest < layers * queries * side**2 / 2
