"""Deformable attention by ONNX's GridSample, for which every runtime has a kernel.

JAX has no such primitive, so one is defined here, with an abstract evaluation and an ONNX form
alone. A model to export uses it in place of `m2f_jax.ops.ms_deform_attn`, which would become some
hundred nodes of gathers and sums.

Axes: as of `m2f_jax.ops.ms_deform_attn`; N images times heads.
"""

import itertools
import math
from collections.abc import Sequence
from typing import cast

import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import JaxprEqn, Primitive
from jaxtyping import Array, Float

from m2f_jax.inference.export.onnx.graph import Graph, Value
from m2f_jax.inference.export.onnx.operators.values import result
from m2f_jax.modeling.model import Model, without_kernels

grid_sample_p = Primitive("grid_sample")


@grid_sample_p.def_abstract_eval
def _abstract_eval(maps: ShapedArray, grid: ShapedArray) -> ShapedArray:
    return ShapedArray((*maps.shape[:2], *grid.shape[1:3]), maps.dtype)


def grid_sample(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes bilinear samples of maps [N, D, h, w] at points [N, P, Q, 2]; zero outside."""
    found = result(equation)
    dense = [graph.dense(x) for x in inputs]
    return graph.add("GridSample", dense, *found, mode="linear", padding_mode="zeros")


def ms_deform_attn(
    values: Float[Array, "B S H D"],
    sizes: Sequence[tuple[int, int]],
    locations: Float[Array, "B Q H L P 2"],
    weights: Float[Array, "B Q H L P"],
) -> Float[Array, "B Q H*D"]:
    """Computes `m2f_jax.ops.ms_deform_attn`; arguments and results as there."""
    batch, queries, heads, levels, points, _ = locations.shape
    maps = jnp.transpose(values, (0, 2, 3, 1)).reshape(batch * heads, -1, values.shape[1])
    grids = jnp.transpose(2 * locations - 1, (0, 2, 3, 4, 1, 5))  # the maps' corners are at -1, 1
    grids = grids.reshape(batch * heads, levels, points, queries, 2)
    ends = itertools.accumulate(map(math.prod, sizes))
    samples = [
        grid_sample_p.bind(
            maps[..., end - math.prod(size) : end].reshape(*maps.shape[:2], *size), grids[:, level]
        )
        for level, (size, end) in enumerate(zip(sizes, ends, strict=True))
    ]
    weights = jnp.transpose(weights, (0, 2, 3, 4, 1)).reshape(batch * heads, 1, -1, queries)
    sums = (jnp.concatenate(cast(list[Array], samples), axis=2) * weights).sum(axis=2)
    return jnp.swapaxes(sums.reshape(batch, -1, queries), 1, 2)


def with_grid_samples(model: Model) -> Model:
    """Returns a model on the same arrays, of plain operators and GridSample."""
    plain = without_kernels(model)
    plain.set_attributes(ms_deform_attn=ms_deform_attn, raise_if_not_found=False)
    return plain
