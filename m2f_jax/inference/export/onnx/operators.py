"""How each primitive of JAX that the models use is written in ONNX.

Whatever the primitive's definition says of shapes holds here: shapes are known, and arguments of an
elementwise primitive have one shape, apart from axes that are only broadcast.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode
from onnx import helper

from m2f_jax.inference.export.onnx.graph import (
    Graph,
    Operator,
    Symbol,
    Value,
    info,
    is_view,
    onnx_dtype,
)

WIDER = {  # for dtypes that runtimes don't compute with
    **{np.dtype(name): np.dtype("int32") for name in ("uint8", "int8", "uint16", "int16")},
    np.dtype("uint32"): np.dtype("int64"),
}
ELEMENTWISE = {
    "add": "Add", "add_any": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "max": "Max",
    "min": "Min", "neg": "Neg", "sign": "Sign", "abs": "Abs", "exp": "Exp", "log": "Log",
    "erf": "Erf", "tanh": "Tanh", "sqrt": "Sqrt", "floor": "Floor", "logistic": "Sigmoid",
    "pow": "Pow", "sin": "Sin", "cos": "Cos",
}  # fmt: skip
COMPARISONS = {
    "eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual",
}  # fmt: skip
LOGICAL = {"and": "And", "or": "Or", "not": "Not", "xor": "Xor", "ne": "Xor"}
BITWISE = {"and": "BitwiseAnd", "or": "BitwiseOr", "xor": "BitwiseXor", "not": "BitwiseNot"}
REDUCTIONS = {
    "reduce_sum": "ReduceSum", "reduce_max": "ReduceMax", "reduce_min": "ReduceMin",
    "reduce_prod": "ReduceProd",
}  # fmt: skip


def result(equation: JaxprEqn) -> tuple[tuple[int, ...], np.dtype]:
    """Returns shape and dtype of an equation's first result."""
    aval: Any = equation.outvars[0].aval
    return tuple(aval.shape), np.dtype(aval.dtype)


def held(value: Value) -> tuple[int, ...]:
    """Returns the shape in the graph, with 1 where an axis is only broadcast."""
    if isinstance(value, Symbol):
        return value.held
    return tuple(1 if step == 0 else n for n, step in zip(value.shape, value.strides, strict=True))


def compact(value: Value) -> Value:
    """Returns a value without the copies along broadcast axes."""
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
    """Adds an elementwise node, in a wider dtype where runtimes lack the one that is asked."""
    if kind == "Where" and np.dtype(dtype).kind == "b":  # which few runtimes choose among
        which, *values = inputs
        values = [cast(graph, x, np.int32) for x in values]
        return cast(graph, each(graph, kind, [which, *values], shape, np.int32), dtype)
    inputs = [wide(graph, x) for x in inputs]
    shapes = [held(x) for x in inputs]
    inside = np.broadcast_shapes(*shapes)
    computed = WIDER.get(np.dtype(dtype), dtype)
    found = graph.add(kind, [compact(x) for x in inputs], inside, computed)
    return cast(graph, Symbol(found.name, inside, tuple(shape), found.dtype), dtype)


def elementwise(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes functions of single elements."""
    return each(graph, ELEMENTWISE[equation.primitive.name], inputs, *result(equation))


def comparison(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes comparisons."""
    if equation.primitive.name in LOGICAL and inputs[0].dtype != bool:  # ne
        same = each(graph, "Equal", inputs, *result(equation))
        return each(graph, "Not", [same], *result(equation))
    return each(graph, COMPARISONS[equation.primitive.name], inputs, *result(equation))


def logical(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes logical and bitwise functions."""
    kinds = LOGICAL if inputs[0].dtype == bool else BITWISE
    if equation.primitive.name not in kinds:
        return comparison(graph, equation, inputs)
    return each(graph, kinds[equation.primitive.name], inputs, *result(equation))


def rsqrt(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes rsqrt."""
    root = each(graph, "Sqrt", inputs, *result(equation))
    return each(graph, "Reciprocal", [root], *result(equation))


def square(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes square."""
    return each(graph, "Mul", [inputs[0], inputs[0]], *result(equation))


def integer_pow(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes integer pow."""
    if equation.params["y"] == 2:
        return square(graph, equation, inputs)
    exponent = np.full((1,) * len(inputs[0].shape), equation.params["y"], inputs[0].dtype)
    return each(graph, "Pow", [inputs[0], exponent], *result(equation))


def remainder(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes remainders."""
    shape, dtype = result(equation)
    return graph.add("Mod", [graph.dense(x) for x in inputs], shape, dtype, fmod=1)


def shift(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Shifts by known numbers of bits, as a product or an exact quotient.

    Those of the sign's bit to the right have no form here, nor those by all bits.
    """
    x, bits = inputs
    if isinstance(bits, Symbol):
        raise NotImplementedError("shifts by a number of bits that isn't known")
    shape, dtype = result(equation)
    many = np.any((bits < 0) | (bits >= min(31, 8 * dtype.itemsize)))
    wraps = equation.primitive.name == "shift_left" and dtype not in (np.uint8, np.int32)
    signed = equation.primitive.name == "shift_right_logical" and dtype.kind == "i"
    if many or wraps or signed or dtype.itemsize > 4 or dtype == np.uint32:
        raise NotImplementedError(f"{equation.primitive.name} of {dtype} by {bits.ravel()[:3]}")
    factor = np.asarray(np.left_shift(1, np.asarray(compact(bits))), np.int32)
    x = wide(graph, x)
    if equation.primitive.name == "shift_left":
        found = each(graph, "Mul", [x, factor], shape, np.int32)
        if dtype == np.uint8:
            mask = np.full((1,) * len(shape), 255, np.int32)
            found = each(graph, "BitwiseAnd", [found, mask], shape, np.int32)
        return cast(graph, found, dtype)
    below = each(graph, "BitwiseAnd", [x, np.asarray(factor - 1, np.int32)], shape, np.int32)
    whole = each(graph, "Sub", [x, below], shape, np.int32)
    return cast(graph, each(graph, "Div", [whole, factor], shape, np.int32), dtype)


def select(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes choices between two values."""
    which, no, yes = inputs
    shape, dtype = result(equation)
    if which.shape != shape:  # one for all
        which = (
            np.reshape(which, (1,) * len(shape))
            if not isinstance(which, Symbol)
            else reshaped(graph, which, (1,) * len(shape))
        )
    return each(graph, "Where", [which, yes, no], shape, dtype)


def clamp(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes clamp."""
    low, x, high = inputs
    shape, dtype = result(equation)
    return each(graph, "Min", [each(graph, "Max", [x, low], shape, dtype), high], shape, dtype)


def convert(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes conversions of the dtype."""
    return cast(graph, inputs[0], result(equation)[1])


# --- Layout --------------------------------------------------------------------------------------


def reshaped(graph: Graph, x: Value, shape: Sequence[int]) -> Value:
    """Returns a value in another shape of as many elements."""
    shape = tuple(int(n) for n in shape)
    x = graph.dense(x)
    if x.shape == shape:
        return x
    if not isinstance(x, Symbol):
        return graph.derive(np.reshape(x, shape), x, "reshape")
    return graph.add("Reshape", [x, np.array(shape, np.int64)], shape, x.dtype)


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
    """Writes broadcasts, which take no node but for their axes."""
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
    graph: Graph, x: Value, starts: Any, ends: Any, steps: Any, shape: Sequence[int]
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
    if dtype.kind == "b":  # which few runtimes pad
        x, value = cast(graph, x, np.int32), cast(graph, value, np.int32)
    pads = np.array([*low, *high], np.int64)
    return cast(graph, graph.add("Pad", [x, pads, value], shape, x.dtype), dtype)


# --- Sums, products, order -----------------------------------------------------------------------


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
    """Writes places of extrema."""
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


def top_k(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Writes top k of the last axis."""
    shape, dtype = result(equation)
    if equation.params.get("axis", -1) not in (-1, len(shape) - 1):
        raise NotImplementedError("top_k of another axis than the last")
    count = np.array([equation.params["k"]], np.int64)
    results = [(shape, dtype), (shape, np.int64)]
    values, places = graph.add_many("TopK", [graph.dense(inputs[0]), count], results)
    return [values, cast(graph, places, np.int32)]


def sort(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Sorts by one key; of equal ones, ONNX takes the first one first."""
    axis = equation.params["dimension"]
    if equation.params["num_keys"] != 1:
        raise NotImplementedError("sorting by several keys")
    key, *more = (graph.dense(x) for x in inputs)
    count = np.array([key.shape[axis]], np.int64)
    results = [(key.shape, key.dtype), (key.shape, np.int64)]
    ordered, places = graph.add_many("TopK", [key, count], results, axis=axis, largest=0)
    taken = [graph.add("GatherElements", [x, places], x.shape, x.dtype, axis=axis) for x in more]
    return [ordered, *taken]


def dot_general(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes dot general."""
    left, right = (graph.dense(x) for x in inputs)
    ((left_sum, right_sum), (left_batch, right_batch)) = equation.params["dimension_numbers"]
    shape, dtype = result(equation)
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


def max_pool(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Takes maxima of windows of height and width, channels last."""
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


# --- Choosing ------------------------------------------------------------------------------------


def taken(graph: Graph, x: Value, rows: Value, axis: int) -> Value:
    """Returns rows of an axis, in place of which the indices' axes stand."""
    x, rows = graph.dense(x), graph.dense(rows)
    shape = (*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])
    return graph.add("Gather", [x, rows], shape, x.dtype, axis=axis)


def between(graph: Graph, x: Value, last: int) -> Value:
    """Returns indices brought into 0 .. last."""
    if not isinstance(x, Symbol):
        return np.asarray(np.clip(x, 0, last))
    ones = (1,) * len(x.shape)
    low, high = np.zeros(ones, x.dtype), np.full(ones, last, x.dtype)
    above = each(graph, "Max", [x, low], x.shape, x.dtype)
    return each(graph, "Min", [above, high], x.shape, x.dtype)


def gather(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Takes rows, or stretches, of one axis; in the mode `fill`, a value where there are none."""
    found = gather_inside(graph, equation, inputs)
    if equation.params["mode"] != GatherScatterMode.FILL_OR_DROP:
        return found
    inside = exist(graph, equation, inputs)
    if not isinstance(inside, Symbol) and inside.all():
        return found
    shape, dtype = result(equation)
    offsets = equation.params["dimension_numbers"].offset_dims
    indices = iter(inside.shape)
    ones = tuple(1 if i in offsets else next(indices) for i in range(len(shape)))
    fill = np.broadcast_to(filling(dtype, equation.params["fill_value"]), (1,) * len(shape))
    return each(graph, "Where", [reshaped(graph, inside, ones), found, fill], shape, dtype)


def filling(dtype: np.dtype, value: Any) -> np.ndarray:
    """Returns what stands where an index points at nothing, by default as JAX has it."""
    if value is None and dtype.kind == "f":
        value = np.nan
    elif value is None and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        value = limits.min if dtype.kind == "i" else limits.max
    return np.asarray(True if value is None else value, dtype)


def exist(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Returns for each index whether all that it takes exists."""
    x, starts = inputs
    mapped, sizes = (
        equation.params["dimension_numbers"].start_index_map,
        equation.params["slice_sizes"],
    )
    room = np.array([x.shape[i] - sizes[i] for i in mapped], np.int32)
    if not isinstance(starts, Symbol):
        return np.asarray(np.logical_and(starts >= 0, starts <= room).all(-1))
    if starts.dtype.kind == "u":
        raise NotImplementedError("filling where indices are unsigned")
    starts = cast(graph, starts, np.int32)
    last = room.reshape((*(1,) * (len(starts.shape) - 1), len(mapped)))
    shape = starts.shape
    low = each(graph, "GreaterOrEqual", [starts, np.zeros_like(last)], shape, np.bool_)
    high = each(graph, "LessOrEqual", [starts, last], shape, np.bool_)
    both = graph.dense(each(graph, "And", [low, high], shape, np.bool_))
    least = [cast(graph, both, np.int32), np.array([-1], np.int64)]
    return cast(graph, graph.add("ReduceMin", least, shape[:-1], np.int32, keepdims=0), np.bool_)


def gather_inside(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Takes rows, or stretches, of one axis, with or without an axis of images before.

    Indices that point at nothing take what is nearest.
    """
    x, starts = inputs
    params = equation.params
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    shape, _ = result(equation)
    mapped = numbers.start_index_map
    partly = [i for i in mapped if sizes[i] < x.shape[i]] or [mapped[0]]
    batched = numbers.operand_batching_dims
    if len(partly) > 1:
        raise NotImplementedError("gathering along several axes")
    [axis] = partly
    place = mapped.index(axis)
    column = (
        sliced(
            graph,
            starts,
            [*(0,) * (len(starts.shape) - 1), place],
            [*starts.shape[:-1], place + 1],
            (1,) * len(starts.shape),
            (*starts.shape[:-1], 1),
        )
        if isinstance(starts, Symbol)
        else starts[..., place : place + 1]
    )
    rows = reshaped(graph, column, starts.shape[:-1])
    count = sizes[axis]
    if params["mode"] != GatherScatterMode.PROMISE_IN_BOUNDS or not isinstance(rows, Symbol):
        rows = between(graph, rows, x.shape[axis] - count)
    if count > 1:
        ones = reshaped(graph, rows, (*rows.shape, 1))
        steps = np.arange(count, dtype=np.int32).reshape((*(1,) * len(rows.shape), count))
        whole = (*rows.shape, count)
        rows = (
            each(graph, "Add", [ones, steps], whole, np.int32)
            if isinstance(ones, Symbol)
            else ones + steps
        )
    leading = len(starts.shape) - 1
    if batched:
        [image_axis], [index_axis] = batched, numbers.start_indices_batching_dims
        if (image_axis, index_axis) != (0, 0) or axis != 1:
            raise NotImplementedError("gathering with other axes in common than the first")
        images, each_has = x.shape[:2]
        x = reshaped(graph, x, (images * each_has, *x.shape[2:]))
        if images > 1:
            offset = (np.arange(images, dtype=np.int32) * each_has).reshape(
                (images, *(1,) * (len(rows.shape) - 1))
            )
            rows = each(graph, "Add", [rows, offset], rows.shape, np.int32)
        axis = 0
    found = taken(graph, x, rows, axis)
    # Now the indices' axes stand at `axis`; the result wants them where offset_dims leave room.
    squeezed = {i for i in range(len(sizes)) if i in numbers.collapsed_slice_dims or i in batched}
    indices = [axis + i for i in range(leading)]
    others = [i for i in range(len(found.shape)) if i not in indices]
    if count == 1 and (partly[0] not in squeezed):  # an axis of length 1 stays
        found = reshaped(
            graph, found, (*found.shape[: axis + leading], 1, *found.shape[axis + leading :])
        )
        others = [i for i in range(len(found.shape)) if i not in indices]
    order = [0] * len(shape)
    for target, source in zip(numbers.offset_dims, others, strict=True):
        order[target] = source
    rest = [i for i in range(len(shape)) if i not in numbers.offset_dims]
    for target, source in zip(rest, indices, strict=True):
        order[target] = source
    return reshaped(graph, transposed(graph, found, order), shape)


def dynamic_slice(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes dynamic slice."""
    x, *starts = inputs
    for axis, (start, size) in enumerate(zip(starts, equation.params["slice_sizes"], strict=True)):
        if size < x.shape[axis]:
            x = taken(graph, x, stretch(graph, start, size, x.shape[axis]), axis)
    return x


def stretch(graph: Graph, start: Value, size: int, length: int) -> Value:
    """Returns the indices from a start on, which is moved so that all of them exist."""
    first = reshaped(graph, between(graph, start, length - size), (1,))
    steps = np.arange(size, dtype=first.dtype)
    if not isinstance(first, Symbol):
        return first + steps
    return each(graph, "Add", [first, steps], (size,), first.dtype)


def dynamic_update_slice(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes dynamic update slice."""
    x, update, start, *_ = inputs
    if x.shape[1:] != update.shape[1:]:
        raise NotImplementedError("updates of parts of rows")
    shape, dtype = result(equation)
    rows = stretch(graph, start, len_of(update), len_of(x))
    rows = cast(graph, reshaped(graph, rows, (len_of(update), 1)), np.int64)
    inside = [wide(graph, graph.dense(y)) for y in (x, update)]
    found = graph.add("ScatterND", [inside[0], rows, inside[1]], shape, inside[0].dtype)
    return cast(graph, found, dtype)


def len_of(x: Value) -> int:
    """Returns the length of the first axis."""
    return x.shape[0]


# --- Loops ---------------------------------------------------------------------------------------


def scan(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> list[Value]:
    """Unrolls a loop of known length."""
    params = equation.params
    # What goes row by row has an axis more outside; versions of jax count these differently.
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
    # Names of each one's own.
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


OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(ELEMENTWISE, elementwise),
    **dict.fromkeys(COMPARISONS, comparison),
    **dict.fromkeys(LOGICAL, logical),
    **dict.fromkeys(REDUCTIONS, reduce),
    **dict.fromkeys(("reduce_or", "reduce_and"), reduce_logical),
    **dict.fromkeys(("argmax", "argmin"), arg),
    **dict.fromkeys(("shift_left", "shift_right_logical", "shift_right_arithmetic"), shift),
    **dict.fromkeys(("reshape", "squeeze"), reshape),
    "rsqrt": rsqrt,
    "square": square,
    "integer_pow": integer_pow,
    "rem": remainder,
    "select_n": select,
    "clamp": clamp,
    "convert_element_type": convert,
    "broadcast_in_dim": broadcast,
    "transpose": transpose,
    "concatenate": concatenate,
    "stack": stack,
    "unstack": unstack,
    "split": split,
    "slice": slice_,
    "rev": reverse,
    "pad": pad,
    "cumsum": cumsum,
    "top_k": top_k,
    "sort": sort,
    "dot_general": dot_general,
    "conv_general_dilated": convolution,
    "reduce_window_max": max_pool,
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "scan": scan,
    "while": while_,
}
