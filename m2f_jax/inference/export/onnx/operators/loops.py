"""Loops of known length, over all images, and of a length that is computed."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from jax.export import is_symbolic_dim
from jax.extend.core import JaxprEqn
from onnx import helper

from m2f_jax.inference.export.onnx.graph import Graph, Symbol, Value, info
from m2f_jax.inference.export.onnx.operators.layout import reshaped, sliced


def scan(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Unrolls a loop of known length; one over all images, whatever their number, is a node."""
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
    if is_symbolic_dim(params["length"]):
        return scan_images(graph, equation, fixed, state, of_steps)
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


def scan_images(
    graph: Graph,
    equation: JaxprEqn,
    fixed: Sequence[Value],
    state: Sequence[Value],
    of_steps: Sequence[Value],
) -> list[Value]:
    """Adds a loop over the first axis of some values; arguments as those of the body."""
    params = equation.params
    body = Graph(graph.operators, outer=graph)
    body.scope = graph.fresh("scan")
    number = itertools.count()

    def inside(x: Value, shape: Sequence[int]) -> Symbol:
        return Symbol(f"{body.scope}/input_{next(number)}", tuple(shape), tuple(shape), x.dtype)

    # OpenVINO's loop knows no computed values from around it; so they go through as a state.
    kept = [graph.dense(x) for x in fixed if isinstance(x, Symbol)]
    state = [*kept, *(graph.dense(x) for x in state)]
    of_steps = [graph.dense(x) for x in of_steps]
    symbols = [inside(x, x.shape) for x in state]
    rows = [inside(x, x.shape[1:]) for x in of_steps]
    passed = iter(symbols)
    consts = [next(passed) if isinstance(x, Symbol) else x for x in fixed]
    results = body.call(params["jaxpr"], [*consts, *passed, *rows])
    results = [body.dense(x) for x in (*symbols[: len(kept)], *results)]
    direction = int(params["reverse"])
    found = graph.add_many(
        "Scan",
        [*state, *of_steps],
        [
            *((x.shape, x.dtype) for x in results[: len(state)]),
            *(((params["length"], *x.shape), x.dtype) for x in results[len(state) :]),
        ],
        body=subgraph(body, [*symbols, *rows], results),
        num_scan_inputs=len(rows),
        scan_input_directions=[direction] * len(rows),
        scan_output_directions=[direction] * (len(results) - len(state)),
    )
    return list(found[len(kept) :])


def subgraph(
    body: Graph, inputs: Sequence[Symbol | onnx.ValueInfoProto], outputs: Sequence[Value]
) -> onnx.GraphProto:
    """Returns the body of a loop."""
    # Through Identity, so that every output has a name of its own.
    named = [body.add("Identity", [x], x.shape, x.dtype) for x in outputs]
    declared = [info(x.name, x.dtype, x.shape) if isinstance(x, Symbol) else x for x in inputs]
    results = [info(x.name, x.dtype, x.shape) for x in named]
    return helper.make_graph(body.nodes, body.scope, declared, results)


def while_(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Symbol]:
    """Adds a loop whose length depends on the image."""
    params = equation.params
    of_cond, of_body = params["cond_nconsts"], params["body_nconsts"]
    cond_consts, body_consts = inputs[:of_cond], inputs[of_cond : of_cond + of_body]
    state = [graph.dense(x) for x in inputs[of_cond + of_body :]]
    body = Graph(graph.operators, outer=graph)
    body.scope = graph.fresh("loop")
    step = info(f"{body.scope}/step", np.int64, ())
    on = info(f"{body.scope}/on", bool, ())
    symbols = [
        Symbol(f"{body.scope}/state_{i}", x.shape, x.shape, np.dtype(x.dtype))
        for i, x in enumerate(state)
    ]
    after = [body.dense(x) for x in body.call(params["body_jaxpr"], [*body_consts, *symbols])]
    [go_on] = body.call(params["cond_jaxpr"], [*cond_consts, *after])
    proto = subgraph(body, [step, on, *symbols], [go_on, *after])
    [first] = graph.call(params["cond_jaxpr"], [*cond_consts, *state])
    shapes = [(x.shape, x.dtype) for x in state]
    return graph.add_many("Loop", [None, first, *state], shapes, body=proto)
