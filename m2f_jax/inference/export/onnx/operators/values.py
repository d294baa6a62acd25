"""Shapes, dtypes and elementwise nodes, for the functions that write operators."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.extend.core import JaxprEqn

from m2f_jax.inference.export.onnx.graph import (
    Graph,
    Length,
    Symbol,
    Value,
    is_view,
    onnx_dtype,
)

WIDER = {  # for dtypes that runtimes don't compute with
    **{np.dtype(name): np.dtype("int32") for name in ("uint8", "int8", "uint16", "int16")},
    np.dtype("uint32"): np.dtype("int64"),
}


def result(equation: JaxprEqn) -> tuple[tuple[Length, ...], np.dtype]:
    """Returns shape and dtype of an equation's first result."""
    aval: Any = equation.outvars[0].aval
    return tuple(aval.shape), np.dtype(aval.dtype)


def held(value: Value) -> tuple[Length, ...]:
    """Returns the shape in the graph, with 1 for broadcast axes."""
    if isinstance(value, Symbol):
        return value.held
    return tuple(1 if step == 0 else n for n, step in zip(value.shape, value.strides, strict=True))


def compact(value: Value) -> Value:
    """Returns a value with the length 1 along broadcast axes."""
    if isinstance(value, Symbol) or not is_view(value):
        return value
    return value[tuple(slice(0, n) for n in held(value))]


def wide(graph: Graph, value: Value) -> Value:
    """Returns a value in a dtype that runtimes compute with."""
    return cast(graph, value, WIDER.get(value.dtype, value.dtype))


def cast(graph: Graph, value: Value, dtype: Any) -> Value:
    """Returns a value in another dtype, broadcast as it was."""
    if value.dtype == dtype:
        return value
    if not isinstance(value, Symbol):
        return np.broadcast_to(np.asarray(compact(value)).astype(dtype), value.shape)
    found = graph.add("Cast", [value], value.held, dtype, to=onnx_dtype(dtype))
    return Symbol(found.name, value.held, value.shape, found.dtype)


def each(graph: Graph, kind: str, inputs: Sequence[Value], shape: Any, dtype: Any) -> Value:
    """Adds an elementwise node, in a wider dtype where runtimes lack the one that is asked for."""
    if kind == "Where" and np.dtype(dtype).kind == "b":  # few runtimes have Where of booleans
        which, *values = inputs
        values = [cast(graph, x, np.int32) for x in values]
        return cast(graph, each(graph, kind, [which, *values], shape, np.int32), dtype)
    inputs = [wide(graph, x) for x in inputs]
    shapes = [held(x) for x in inputs]
    inside = jax.lax.broadcast_shapes(*shapes)
    computed = WIDER.get(np.dtype(dtype), dtype)
    found = graph.add(kind, [compact(x) for x in inputs], inside, computed)
    return cast(graph, Symbol(found.name, inside, tuple(shape), found.dtype), dtype)
