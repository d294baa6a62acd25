"""Sums, extrema, and sorting."""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from m2f_jax.inference.export.onnx.graph import Graph, Value
from m2f_jax.inference.export.onnx.operators.layout import transposed
from m2f_jax.inference.export.onnx.operators.values import cast, result, wide

REDUCTIONS = {
    "reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}  # fmt: skip


def reduce(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes sums, products and extrema."""
    shape, dtype = result(equation)
    x = wide(graph, graph.dense(inputs[0]))
    axes = np.array(equation.params["axes"], np.int64)
    kind = REDUCTIONS[equation.primitive.name]
    return cast(graph, graph.add(kind, [x, axes], shape, x.dtype, keepdims=0), dtype)


def reduce_logical(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes reductions of truth values."""
    shape, _ = result(equation)
    kind = "ReduceMax" if equation.primitive.name == "reduce_or" else "ReduceMin"
    x = cast(graph, graph.dense(inputs[0]), np.int32)
    axes = np.array(equation.params["axes"], np.int64)
    return cast(graph, graph.add(kind, [x, axes], shape, np.int32, keepdims=0), np.dtype(bool))


def arg(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes argmax and argmin."""
    shape, dtype = result(equation)
    kind = "ArgMax" if equation.primitive.name == "argmax" else "ArgMin"
    [axis] = equation.params["axes"]
    x = graph.dense(inputs[0])
    if x.dtype == bool:
        x = cast(graph, x, np.int32)
    return cast(graph, graph.add(kind, [x], shape, np.int64, axis=axis, keepdims=0), dtype)


def cumsum(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes cumsum."""
    axis = np.array(equation.params["axis"], np.int64)
    reverse = int(equation.params["reverse"])
    return graph.add("CumSum", [graph.dense(inputs[0]), axis], *result(equation), reverse=reverse)


def max_pool(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes max pooling over height and width, channels last."""
    params = equation.params
    window, strides, padding = (
        params[name] for name in ("window_dimensions", "window_strides", "padding")
    )
    plain = all(n == 1 for n in (*params["base_dilation"], *params["window_dilation"]))
    outer = [(window[i], strides[i], *padding[i]) for i in (0, -1)]
    if len(window) != 4 or not plain or outer != [(1, 1, 0, 0)] * 2:
        raise NotImplementedError("maxima of windows of other axes than height and width")
    x = transposed(graph, graph.dense(inputs[0]), (0, 3, 1, 2))
    shape, dtype = result(equation)
    found = graph.add(
        "MaxPool",
        [x],
        [shape[i] for i in (0, 3, 1, 2)],
        dtype,
        kernel_shape=window[1:3],
        strides=strides[1:3],
        pads=[side for sides in zip(*padding[1:3], strict=True) for side in sides],
    )
    return transposed(graph, found, (0, 2, 3, 1))


def top_k(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Writes top_k along the last axis."""
    shape, dtype = result(equation)
    if equation.params.get("axis", -1) not in (-1, len(shape) - 1):
        raise NotImplementedError("top_k of another axis than the last")
    count = np.array([equation.params["k"]], np.int64)
    results = [(shape, dtype), (shape, np.int64)]
    values, places = graph.add_many("TopK", [graph.dense(inputs[0]), count], results)
    return [values, cast(graph, places, np.int32)]


def sort(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Writes sorting by one key, which is stable in ONNX too."""
    axis = equation.params["dimension"]
    if equation.params["num_keys"] != 1:
        raise NotImplementedError("sorting by several keys")
    key, *more = (graph.dense(x) for x in inputs)
    count = np.array([key.shape[axis]], np.int64)
    results = [(key.shape, key.dtype), (key.shape, np.int64)]
    ordered, places = graph.add_many("TopK", [key, count], results, axis=axis, largest=0)
    taken = [graph.add("GatherElements", [x, places], x.shape, x.dtype, axis=axis) for x in more]
    return [ordered, *taken]
