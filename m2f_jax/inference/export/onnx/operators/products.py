"""Matrix products and convolutions."""

import math
from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from m2f_jax.inference.export.onnx.graph import Graph, Value
from m2f_jax.inference.export.onnx.operators.layout import reshaped, transposed
from m2f_jax.inference.export.onnx.operators.values import result


def dot_general(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes dot general."""
    left, right = (graph.dense(x) for x in inputs)
    ((left_sum, right_sum), (left_batch, right_batch)) = equation.params["dimension_numbers"]
    shape, dtype = result(equation)
    if not shape and len(left.shape) == 1:  # as a product of matrices, it crashes OpenVINO 2026.4
        both = graph.add("Mul", [left, right], left.shape, dtype)
        return graph.add("ReduceSum", [both], (), dtype, keepdims=0)
    left_free = [i for i in range(len(left.shape)) if i not in (*left_sum, *left_batch)]
    right_free = [i for i in range(len(right.shape)) if i not in (*right_sum, *right_batch)]

    def sizes(x: Value, axes: Sequence[int]) -> list[int]:
        return [x.shape[i] for i in axes]

    left = transposed(graph, left, [*left_batch, *left_free, *left_sum])
    right = transposed(graph, right, [*right_batch, *right_sum, *right_free])
    n = len(left_batch)
    batch = list(left.shape[:n])
    rows, columns = list(shape[n : n + len(left_free)]), list(shape[n + len(left_free) :])
    inner = math.prod(left.shape[n + len(left_free) :])
    if batch or len(left_sum) != 1 or not rows:
        left = reshaped(graph, left, [*batch, math.prod(rows), inner])
        rows = [math.prod(rows)]
    right = reshaped(graph, right, [*batch, inner, math.prod(columns)])
    found = graph.add("MatMul", [left, right], [*batch, *rows, math.prod(columns)], dtype)
    return reshaped(graph, found, shape)


def convolution(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes convolutions."""
    params = equation.params
    if any(n != 1 for n in params["lhs_dilation"]) or params["batch_group_count"] != 1:
        raise NotImplementedError("transposed convolutions")
    of_image, of_kernel, of_result = params["dimension_numbers"]
    image = transposed(graph, graph.dense(inputs[0]), of_image)
    kernel = transposed(graph, graph.dense(inputs[1]), of_kernel)
    shape, dtype = result(equation)
    found = graph.add(
        "Conv",
        [image, kernel],
        [shape[i] for i in of_result],
        dtype,
        strides=params["window_strides"],
        dilations=params["rhs_dilation"],
        pads=[side for sides in zip(*params["padding"], strict=True) for side in sides],
        group=params["feature_group_count"],
    )
    return transposed(graph, found, np.argsort(of_result).tolist())
