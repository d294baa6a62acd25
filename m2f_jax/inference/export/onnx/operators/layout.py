"""Broadcasting, reshaping, transposing, joining, splitting, slicing and padding."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.export import is_symbolic_dim
from jax.extend.core import JaxprEqn

from m2f_jax.inference.export.onnx.graph import Graph, Length, Symbol, Value
from m2f_jax.inference.export.onnx.operators.values import cast, compact, held, result


def reshaped(graph: Graph, x: Value, shape: Sequence[Length]) -> Value:
    """Returns a value in another shape of as many elements."""
    shape = tuple(shape)
    x = graph.dense(x)
    if x.shape == shape:
        return x
    if not isinstance(x, Symbol):
        return graph.derive(np.reshape(x, shape), x, "reshape")
    unknown = [is_symbolic_dim(n) for n in shape]
    sides = [-1 if is_unknown else n for n, is_unknown in zip(shape, unknown, strict=True)]
    target = np.array(sides, np.int64) if sum(unknown) < 2 else graph.lengths(shape)
    return graph.add("Reshape", [x, target], shape, x.dtype)


def transposed(graph: Graph, x: Value, order: Sequence[int]) -> Value:
    """Returns a value with its axes in another order."""
    order = tuple(int(n) for n in order)
    if order == tuple(range(len(order))):
        return x
    if not isinstance(x, Symbol):
        return graph.derive(np.transpose(x, order), x, "transpose")
    held = tuple(x.held[i] for i in order)
    found = graph.add("Transpose", [x], held, x.dtype, perm=order)
    return Symbol(found.name, held, tuple(x.shape[i] for i in order), x.dtype)


def broadcast(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes broadcasts as a reshape: new axes have the length 1 in the graph."""
    x, shape = inputs[0], tuple(equation.params["shape"])
    inside, grown = [1] * len(shape), [1] * len(shape)
    for place, n, whole in zip(
        equation.params["broadcast_dimensions"], held(x), x.shape, strict=True
    ):
        inside[place] = n
        grown[place] = whole
    core = Symbol(x.name, x.held, x.held, x.dtype) if isinstance(x, Symbol) else compact(x)
    found = reshaped(graph, core, inside)
    return Symbol(found.name, tuple(inside), shape, found.dtype)  # pyright: ignore


def reshape(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes reshape."""
    shape = result(equation)[0]
    x = inputs[0]
    ones = [n for n in x.shape if n != 1] == [n for n in shape if n != 1]
    if isinstance(x, Symbol) and x.held != x.shape and ones:  # axes of length 1 come or go
        kept = iter([h for h, n in zip(x.held, x.shape, strict=True) if n != 1])
        inside = tuple(1 if n == 1 else next(kept) for n in shape)
        core = reshaped(graph, Symbol(x.name, x.held, x.held, x.dtype), inside)
        return Symbol(core.name, inside, shape, x.dtype)  # pyright: ignore
    return reshaped(graph, x, shape)


def transpose(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes transpose."""
    return transposed(graph, inputs[0], equation.params["permutation"])


def concatenate(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes concatenate."""
    parts = [graph.dense(x) for x in inputs]
    if len(parts) == 1:
        return parts[0]
    return graph.add("Concat", parts, *result(equation), axis=equation.params["dimension"])


def stack(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes stack."""
    axis = equation.params["axis"]
    parts = [reshaped(graph, x, (*x.shape[:axis], 1, *x.shape[axis:])) for x in inputs]
    return graph.add("Concat", parts, *result(equation), axis=axis)


def split(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Symbol]:
    """Writes split."""
    sizes, axis = np.array(equation.params["sizes"], np.int64), equation.params["axis"]
    avals: list[Any] = [x.aval for x in equation.outvars]
    shapes = [(x.shape, x.dtype) for x in avals]
    return graph.add_many("Split", [graph.dense(inputs[0]), sizes], shapes, axis=axis)


def unstack(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Writes unstack."""
    x, axis = graph.dense(inputs[0]), equation.params["axis"]
    thin = (*x.shape[:axis], 1, *x.shape[axis + 1 :])
    sizes = np.ones(len(equation.outvars), np.int64)
    parts = graph.add_many("Split", [x, sizes], [(thin, x.dtype)] * len(sizes), axis=axis)
    return [reshaped(graph, part, (*thin[:axis], *thin[axis + 1 :])) for part in parts]


def sliced(
    graph: Graph, x: Value, starts: Any, ends: Any, steps: Any, shape: Sequence[Length]
) -> Value:
    """Returns a part of a value, by start, end and step of each axis."""
    x = graph.dense(x)
    axes = [
        i
        for i, (a, b, s) in enumerate(zip(starts, ends, steps, strict=True))
        if (a, b, s) != (0, x.shape[i], 1)
    ]
    if not axes:
        return x
    values = [
        np.array([y[i] for i in axes], np.int64) for y in (starts, ends, range(len(starts)), steps)
    ]
    return graph.add("Slice", [x, *values], shape, x.dtype)


def slice_(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes slices."""
    params = equation.params
    steps = params["strides"] or (1,) * len(params["start_indices"])
    limits = params["limit_indices"]
    return sliced(graph, inputs[0], params["start_indices"], limits, steps, result(equation)[0])


def reverse(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes reversals."""
    [x] = inputs
    turned = equation.params["dimensions"]
    starts = [-1 if i in turned else 0 for i in range(len(x.shape))]
    ends = [-(n + 1) if i in turned else n for i, n in enumerate(x.shape)]
    steps = [-1 if i in turned else 1 for i in range(len(x.shape))]
    return sliced(graph, x, starts, ends, steps, x.shape)


def pad(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes pad."""
    x, value = inputs
    low, high, inner = zip(*equation.params["padding_config"], strict=True)
    if any(inner) or min(*low, *high) < 0:
        raise NotImplementedError("padding between samples, or less than none")
    shape, dtype = result(equation)
    x = graph.dense(x)
    if dtype.kind == "b":  # few runtimes pad booleans
        x, value = cast(graph, x, np.int32), cast(graph, value, np.int32)
    pads = np.array([*low, *high], np.int64)
    return cast(graph, graph.add("Pad", [x, pads, value], shape, x.dtype), dtype)
