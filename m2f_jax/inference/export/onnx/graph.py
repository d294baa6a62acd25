"""A traced program as an ONNX graph.

The program's jaxpr is traversed once. Values that depend on no input are computed and become
constants; all others become nodes. Calls and checkpoints are inlined, of branches by platform the
default is taken, and loops of known length are unrolled.

A value may have a larger shape than is stored in the file: broadcast axes have the length 1 there,
since ONNX broadcasts by itself.

The first axis of an input may have a length that isn't known, the number of images N. Axes of other
values are then whole multiples of it, as symbolic dimensions of jax.export.
"""

import hashlib
import itertools
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnx
from jax.export import is_symbolic_dim
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal
from onnx import helper, numpy_helper

OPSET = 20
CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
}
LARGE = 4096  # broadcast constants of so many numbers are written out when the file runs
IDENTITIES = {"stop_gradient", "optimization_barrier", "copy", "copy_p"}


Length = Any  # of an axis: an int, or a symbolic dimension


@dataclass(frozen=True)
class Symbol:
    """A value that is computed when the file runs.

    Attributes:
        name: in the graph.
        held: its shape in the graph, with 1 for broadcast axes.
        shape: its shape in the program.
        dtype: in both.
    """

    name: str
    held: tuple[Length, ...]
    shape: tuple[Length, ...]
    dtype: np.dtype


Value = Symbol | np.ndarray
Operator = Callable[["Graph", JaxprEqn, Sequence[Value]], Any]


class Graph:
    """A graph under construction, of a model or of a loop's body.

    Args:
        operators: the function that writes each primitive.
        names: of constants, by the `id()` of their arrays.
        outer: the graph around a loop's body, which holds the constants.
    """

    def __init__(
        self,
        operators: Mapping[str, Operator],
        names: Mapping[int, str] | None = None,
        outer: "Graph | None" = None,
    ):
        self.operators = operators
        self.nodes: list[onnx.NodeProto] = []
        self.top: Graph = outer.top if outer else self
        self.scope: str = outer.scope if outer else ""
        if outer is None:
            self.names = dict(names or {})
            self.counters: dict[str, itertools.count] = {}
            self.constants: dict[Any, tuple[str, np.ndarray]] = {}
            self.kept: list[np.ndarray] = []  # so that no `id()` is used twice
            self.images: tuple[Length, Symbol] | None = None  # N, and its value as int64 [1]

    def fresh(self, kind: str) -> str:
        """Returns an unused name within the part of the network that is being written."""
        stem = f"{self.scope}/{kind}".lstrip("/")
        number = next(self.top.counters.setdefault(stem, itertools.count()))
        return f"{stem}_{number}" if number else stem

    def derive(self, array: np.ndarray, source: Any, kind: str) -> np.ndarray:
        """Returns an array, under a name derived from that of the constant it was made from."""
        if (name := self.top.names.get(id(source))) is not None:
            self.top.names.setdefault(id(array), f"{name}.{kind}")
            self.top.kept.append(array)
        return array

    def constant(self, array: np.ndarray) -> str:
        """Stores a constant, unless it is stored already, and returns its name."""
        array = np.asarray(array)
        name = self.top.names.get(id(array))
        key: Any = id(array)
        if name is None or array.size <= 64:
            key = array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest()
        if key not in self.top.constants:
            name = name or self.fresh("constant")
            if any(name == taken for taken, _ in self.top.constants.values()):
                name = self.fresh("constant")
            self.top.constants[key] = name, array
        return self.top.constants[key][0]

    def add(
        self,
        kind: str,
        inputs: Sequence[Any],
        shape: Sequence[Length],
        dtype: Any,
        **attributes: Any,
    ) -> Symbol:
        """Adds a node with one result; an input is a value, or None for an optional one."""
        return self.add_many(kind, inputs, [(shape, dtype)], **attributes)[0]

    def add_many(
        self,
        kind: str,
        inputs: Sequence[Any],
        results: Sequence[tuple[Sequence[Length], Any]],
        **attributes: Any,
    ) -> list[Symbol]:
        """Adds a node with several results, given as pairs of shape and dtype."""
        name = self.fresh(kind)
        outputs = [f"{name}:{i}" if i else name for i in range(len(results))]
        read = ["" if x is None else self.name_of(x) for x in inputs]
        self.nodes.append(helper.make_node(kind, read, outputs, name=name, **attributes))
        return [
            Symbol(output, tuple(shape), tuple(shape), np.dtype(dtype))
            for output, (shape, dtype) in zip(outputs, results, strict=True)
        ]

    def name_of(self, value: Value) -> str:
        """Returns the name of a value, which is stored if it is a constant."""
        return value.name if isinstance(value, Symbol) else self.constant(value)

    def dense(self, value: Value) -> Value:
        """Returns a value with its broadcast axes written out."""
        if not isinstance(value, Symbol):
            if not is_view(value):
                return value
            if value.size < LARGE:
                return np.asarray(value, order="C")
            core = value[tuple(slice(1 if step == 0 else None) for step in value.strides)]
            value = Symbol(self.constant(core), core.shape, value.shape, value.dtype)
        if value.held == value.shape:
            return value
        target = self.lengths(value.shape)
        return self.add("Expand", [value, target], value.shape, value.dtype)

    def lengths(self, shape: Sequence[Length]) -> Value:
        """Returns a shape as the input of a node, int64 [axes]; known if none depends on N."""
        if not any(map(is_symbolic_dim, shape)):
            return np.array(shape, np.int64)
        return self.add("Concat", [self.length(n) for n in shape], (len(shape),), np.int64, axis=0)

    def length(self, n: Length) -> Value:
        """Returns the length of an axis as int64 [1].

        Raises:
            NotImplementedError: it depends on N, and isn't a multiple of it.
        """
        if not is_symbolic_dim(n):
            return np.array([n], np.int64)
        assert self.top.images is not None  # an input that has it
        unit, count = self.top.images
        if n % unit != 0:
            raise NotImplementedError(f"an axis of {n}")
        times = n // unit
        return count if times == 1 else self.add("Mul", [count, self.length(times)], (1,), np.int64)

    def run(self, jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Value]) -> list[Value]:
        """Adds the equations of a jaxpr, and returns its results."""
        values: dict[Any, Value] = {}

        def read(variable: Any) -> Value:
            if isinstance(variable, Literal):
                return np.asarray(variable.val, variable.aval.dtype)  # pyright: ignore[reportAttributeAccessIssue]
            return values[variable]

        variables = [*jaxpr.constvars, *jaxpr.invars]
        for variable, value in zip(variables, [*consts, *arguments], strict=True):
            values[variable] = value if isinstance(value, Symbol) else np.asarray(value)
        for equation in jaxpr.eqns:
            outer = self.scope
            stack = str(equation.source_info.name_stack)
            if stack:
                self.scope = f"{outer}/{re.sub(r'[^A-Za-z0-9_./]', '_', stack)}"
            try:
                results = self.write(equation, [read(x) for x in equation.invars])
            finally:
                self.scope = outer
            if not equation.primitive.multiple_results and not isinstance(results, list):
                results = [results]
            for variable, value in zip(equation.outvars, results, strict=True):
                values[variable] = value if isinstance(value, Symbol) else np.asarray(value)
        return [read(x) for x in jaxpr.outvars]

    def call(self, closed: ClosedJaxpr | Jaxpr, arguments: Sequence[Value]) -> list[Value]:
        """Adds the body of a function, and returns its results."""
        if isinstance(closed, ClosedJaxpr):
            return self.run(closed.jaxpr, closed.consts, arguments)
        return self.run(closed, (), arguments)

    def write(self, equation: JaxprEqn, inputs: list[Value]) -> Any:
        """Computes an equation, or adds its nodes.

        Raises:
            NotImplementedError: the primitive has no ONNX form here.
        """
        name = equation.primitive.name
        if name == "platform_index":
            return np.int32(equation.params["platforms"].index(None))
        if name == "cond" and not isinstance(inputs[0], Symbol):
            return self.call(equation.params["branches"][int(inputs[0])], inputs[1:])
        if name in IDENTITIES:
            return list(inputs)
        if name == "reduce_precision" and keeps_precision(equation):
            return inputs[0]
        known = not any(isinstance(x, Symbol) for x in inputs)
        if known and (name not in CALLS or name == "scan"):
            return self.compute(equation, inputs)
        if name in self.operators:
            return self.operators[name](self, equation, inputs)
        if name in CALLS:
            return self.call(equation.params[CALLS[name]], inputs)
        raise NotImplementedError(
            f"the primitive {name} has no ONNX form in m2f_jax/inference/export/onnx/operators"
        )

    def compute(self, equation: JaxprEqn, inputs: list[Value]) -> Any:
        """Computes an equation that depends on no input; broadcasts take no memory."""
        [first, *_] = [*inputs, None]
        name, params = equation.primitive.name, equation.params
        if name == "broadcast_in_dim":
            axes = [1] * len(params["shape"])
            for place, length in zip(params["broadcast_dimensions"], np.shape(first), strict=True):
                axes[place] = length
            core = np.reshape(first, axes)
            if any(map(is_symbolic_dim, params["shape"])):
                return Symbol(self.constant(core), tuple(axes), params["shape"], core.dtype)
            return np.broadcast_to(core, params["shape"])
        for variable in equation.outvars:
            shape = variable.aval.shape  # pyright: ignore[reportAttributeAccessIssue]
            if any(map(is_symbolic_dim, shape)):
                raise NotImplementedError(f"the primitive {name} of the shape {shape}")
        with jax.ensure_compile_time_eval():
            found = equation.primitive.bind(*inputs, **params)
        found = jax.tree.map(np.asarray, found)
        return self.derive(found, first, name) if isinstance(found, np.ndarray) else found


def keeps_precision(equation: JaxprEqn) -> bool:
    """Returns whether reduce_precision keeps the dtype's precision, as in jax.checkpoint."""
    dtype = jnp.finfo(equation.invars[0].aval.dtype)  # pyright: ignore[reportAttributeAccessIssue]
    asked = equation.params["exponent_bits"], equation.params["mantissa_bits"]
    return asked[0] >= dtype.nexp and asked[1] >= dtype.nmant


def is_view(array: np.ndarray) -> bool:
    """Returns whether an axis of an array is broadcast."""
    return any(s == 0 and n > 1 for s, n in zip(array.strides, array.shape, strict=True))


def write_graph(
    closed: ClosedJaxpr,
    operators: Mapping[str, Operator],
    inputs: Mapping[str, jax.ShapeDtypeStruct],
    outputs: Sequence[str],
    constants: Mapping[str, Any],
) -> onnx.ModelProto:
    """Returns a program as an ONNX model.

    Args:
        closed: the program; its arguments are the constants, in order, and then the inputs.
        operators: the function that writes each primitive.
        inputs: shapes and dtypes by name.
        outputs: the results' names.
        constants: the arrays to store in the file, by name.
    """
    arrays = {name: np.asarray(x) for name, x in constants.items()}
    graph = Graph(operators, {id(x): name for name, x in arrays.items()})
    symbols = [
        Symbol(name, tuple(x.shape), tuple(x.shape), np.dtype(x.dtype))
        for name, x in inputs.items()
    ]
    for x in symbols:
        if graph.images is None and x.shape and is_symbolic_dim(x.shape[0]):
            count = graph.add("Shape", [x], (1,), np.int64, start=0, end=1)
            graph.images = x.shape[0], count
    results = graph.run(closed.jaxpr, closed.consts, [*arrays.values(), *symbols])
    declared = []
    for name, value in zip(outputs, results, strict=True):
        value = graph.dense(value)
        graph.nodes.append(helper.make_node("Identity", [graph.name_of(value)], [name], name=name))
        declared.append(info(name, value.dtype, value.shape))
    nodes, read = needed(graph.nodes, outputs)
    proto = helper.make_graph(
        nodes,
        "m2f_jax",
        [info(x.name, x.dtype, x.shape) for x in symbols],
        declared,
        [
            numpy_helper.from_array(np.asarray(x, order="C"), name)
            for name, x in graph.constants.values()
            if name in read
        ],
    )
    model = helper.make_model(proto, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 9  # of that opset
    model.producer_name = "m2f-jax"
    return model


def needed(
    nodes: Sequence[onnx.NodeProto], outputs: Sequence[str]
) -> tuple[list[onnx.NodeProto], set[str]]:
    """Returns the nodes that outputs depend on, in order, and the names of all that these read."""
    found, read = [], set(outputs)
    for node in reversed(nodes):
        if read.isdisjoint(node.output):
            continue
        found.append(node)
        read.update(node.input)
        for attribute in node.attribute:
            if attribute.HasField("g"):
                read |= needed(attribute.g.node, [x.name for x in attribute.g.output])[1]
    return found[::-1], read


def info(name: str, dtype: Any, shape: Sequence[Length]) -> onnx.ValueInfoProto:
    """Returns the declaration of an input or output; lengths that aren't known are named."""
    sides = [str(n) if is_symbolic_dim(n) else n for n in shape]
    return helper.make_tensor_value_info(name, onnx_dtype(dtype), sides)


def onnx_dtype(dtype: Any) -> int:
    """Returns ONNX's number for a dtype."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
