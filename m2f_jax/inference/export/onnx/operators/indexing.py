"""Gathers, and slices that begin at computed indices."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn
from jax.lax import GatherScatterMode

from m2f_jax.inference.export.onnx.graph import Graph, Symbol, Value
from m2f_jax.inference.export.onnx.operators.layout import reshaped, sliced, transposed
from m2f_jax.inference.export.onnx.operators.values import cast, each, result, wide


def gather_rows(graph: Graph, x: Value, rows: Value, axis: int) -> Value:
    """Gathers rows along an axis, which the axes of the indices replace."""
    x, rows = graph.dense(x), graph.dense(rows)
    shape = (*x.shape[:axis], *rows.shape, *x.shape[axis + 1 :])
    return graph.add("Gather", [x, rows], shape, x.dtype, axis=axis)


def clipped(graph: Graph, x: Value, last: int) -> Value:
    """Clips indices to 0 .. last."""
    if not isinstance(x, Symbol):
        return np.asarray(np.clip(x, 0, last))
    ones = (1,) * len(x.shape)
    low, high = np.zeros(ones, x.dtype), np.full(ones, last, x.dtype)
    above = each(graph, "Max", [x, low], x.shape, x.dtype)
    return each(graph, "Min", [above, high], x.shape, x.dtype)


def gather(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes gathers of rows, or of ranges of rows, along one axis.

    In the mode `fill`, a fill value stands for rows that don't exist.
    """
    found = gather_inside(graph, equation, inputs)
    if equation.params["mode"] != GatherScatterMode.FILL_OR_DROP:
        return found
    inside = all_exist(graph, equation, inputs)
    if not isinstance(inside, Symbol) and inside.all():
        return found
    shape, dtype = result(equation)
    offsets = equation.params["dimension_numbers"].offset_dims
    indices = iter(inside.shape)
    ones = tuple(1 if i in offsets else next(indices) for i in range(len(shape)))
    fill = np.broadcast_to(fill_value_of(dtype, equation.params["fill_value"]), (1,) * len(shape))
    return each(graph, "Where", [reshaped(graph, inside, ones), found, fill], shape, dtype)


def fill_value_of(dtype: np.dtype, value: Any) -> np.ndarray:
    """Returns the fill value of a gather: `value`, or by default JAX's for the dtype."""
    if value is None and dtype.kind == "f":
        value = np.nan
    elif value is None and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        value = limits.min if dtype.kind == "i" else limits.max
    return np.asarray(True if value is None else value, dtype)


def all_exist(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Returns for each index whether all rows that it selects exist."""
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
    """Writes a gather whose indices are clipped, with or without a leading axis of images."""
    x, starts = inputs
    params = equation.params
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    shape, _ = result(equation)
    mapped = [int(axis) for axis in numbers.start_index_map]  # vmap makes them np.int64
    partial = [i for i in mapped if sizes[i] < x.shape[i]] or [mapped[0]]
    batched = numbers.operand_batching_dims
    if not isinstance(starts, Symbol) and len(starts.shape) == 1:  # at one known place
        begin = [0] * len(sizes)
        for axis, start in zip(mapped, starts.tolist(), strict=True):
            begin[axis] = max(0, min(start, x.shape[axis] - sizes[axis]))
        end = [first + n for first, n in zip(begin, sizes, strict=True)]
        return reshaped(graph, sliced(graph, x, begin, end, (1,) * len(sizes), sizes), shape)
    if len(partial) > 1:
        raise NotImplementedError("gathering along several axes")
    [axis] = partial
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
        rows = clipped(graph, rows, x.shape[axis] - count)
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
            raise NotImplementedError("gathering with other batch axes than the first")
        images, each_has = x.shape[:2]
        x = reshaped(graph, x, (images * each_has, *x.shape[2:]))
        if images > 1:
            offset = (np.arange(images, dtype=np.int32) * each_has).reshape(
                (images, *(1,) * (len(rows.shape) - 1))
            )
            rows = each(graph, "Add", [rows, offset], rows.shape, np.int32)
        axis = 0
    found = gather_rows(graph, x, rows, axis)
    # The indices' axes are at `axis` now; in the result they fill the places beside offset_dims.
    squeezed = {i for i in range(len(sizes)) if i in numbers.collapsed_slice_dims or i in batched}
    indices = [axis + i for i in range(leading)]
    others = [i for i in range(len(found.shape)) if i not in indices]
    if count == 1 and (partial[0] not in squeezed):  # an axis of length 1 stays
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
    """Writes slices that begin at computed indices."""
    x, *starts = inputs
    for axis, (start, size) in enumerate(zip(starts, equation.params["slice_sizes"], strict=True)):
        if size < x.shape[axis]:
            x = gather_rows(graph, x, index_range(graph, start, size, x.shape[axis]), axis)
    return x


def index_range(graph: Graph, start: Value, size: int, length: int) -> Value:
    """Returns `size` indices from a start on, which is clipped so that all of them exist."""
    first = reshaped(graph, clipped(graph, start, length - size), (1,))
    steps = np.arange(size, dtype=first.dtype)
    if not isinstance(first, Symbol):
        return first + steps
    return each(graph, "Add", [first, steps], (size,), first.dtype)


def dynamic_update_slice(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes updates of whole rows from a computed index on."""
    x, update, start, *_ = inputs
    if x.shape[1:] != update.shape[1:]:
        raise NotImplementedError("updates of parts of rows")
    shape, dtype = result(equation)
    rows = index_range(graph, start, len_of(update), len_of(x))
    rows = cast(graph, reshaped(graph, rows, (len_of(update), 1)), np.int64)
    inside = [wide(graph, graph.dense(y)) for y in (x, update)]
    found = graph.add("ScatterND", [inside[0], rows, inside[1]], shape, inside[0].dtype)
    return cast(graph, found, dtype)


def len_of(x: Value) -> int:
    """Returns the length of the first axis."""
    return x.shape[0]
