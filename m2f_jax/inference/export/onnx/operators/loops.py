"""Loops of known and of unknown length."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn
from onnx import helper

from m2f_jax.inference.export.onnx.graph import Graph, Symbol, Value, info
from m2f_jax.inference.export.onnx.operators.layout import reshaped, sliced


def scan(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Unrolls a loop of known length."""
    params = equation.params
    # Arguments and results that are scanned have one axis more outside of the body. They are found
    # by that, since versions of jax count them differently.
    body: Any = params["jaxpr"].jaxpr
    outvars: Any = equation.outvars
    through = sum(
        len(x.shape) != len(inner.aval.shape) for x, inner in zip(inputs, body.invars, strict=True)
    )
    carried = sum(
        len(outer.aval.shape) == len(inner.aval.shape)
        for outer, inner in zip(outvars, body.outvars, strict=True)
    )
    consts = len(inputs) - through - carried
    fixed, state, of_steps = (
        inputs[:consts],
        list(inputs[consts : consts + carried]),
        inputs[consts + carried :],
    )
    found: list[list[Value]] = []
    steps = range(params["length"])
    for i in reversed(steps) if params["reverse"] else steps:
        now = [row(graph, x, i) for x in of_steps]
        results = graph.call(params["jaxpr"], [*fixed, *state, *now])
        state = results[:carried]
        found.append(results[carried:])
    if params["reverse"]:
        found.reverse()
    stacked = []
    for parts in zip(*found, strict=True):
        if not any(isinstance(x, Symbol) for x in parts):
            stacked.append(np.stack(parts))
            continue
        rows = [reshaped(graph, x, (1, *x.shape)) for x in parts]
        shape = (len(rows), *parts[0].shape)
        stacked.append(graph.add("Concat", rows, shape, parts[0].dtype, axis=0))
    return [*state, *stacked]


def row(graph: Graph, x: Value, i: int) -> Value:
    """Returns one row of the first axis."""
    if not isinstance(x, Symbol):
        return np.asarray(x[i])
    starts, ends = [i, *(0,) * (len(x.shape) - 1)], [i + 1, *x.shape[1:]]
    part = sliced(graph, x, starts, ends, (1,) * len(x.shape), (1, *x.shape[1:]))
    return reshaped(graph, part, x.shape[1:])


def while_(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Symbol]:
    """Adds a loop whose length depends on the image."""
    params = equation.params
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts = inputs[:of_cond], inputs[of_cond : of_cond + of_body]
    state = [graph.dense(x) for x in inputs[of_cond + of_body :]]
    body = Graph(graph.operators, outer=graph)
    body.scope = graph.fresh("loop")
    step, on = (f"{body.scope}/{name}" for name in ("step", "on"))
    symbols = [
        Symbol(f"{body.scope}/state_{i}", x.shape, x.shape, np.dtype(x.dtype))
        for i, x in enumerate(state)
    ]
    after = [body.dense(x) for x in body.call(params["body_jaxpr"], [*body_consts, *symbols])]
    [go_on] = body.call(params["cond_jaxpr"], [*cond_consts, *after])
    # Through Identity, so that every output has a name of its own.
    outputs = [body.add("Identity", [x], x.shape, x.dtype) for x in (go_on, *after)]
    proto = helper.make_graph(
        body.nodes,
        body.scope,
        [
            info(step, np.int64, ()),
            info(on, bool, ()),
            *(info(x.name, x.dtype, x.shape) for x in symbols),
        ],
        [info(x.name, x.dtype, x.shape) for x in outputs],
    )
    [first] = graph.call(params["cond_jaxpr"], [*cond_consts, *state])
    shapes = [(x.shape, x.dtype) for x in state]
    return graph.add_many("Loop", [None, first, *state], shapes, body=proto)
