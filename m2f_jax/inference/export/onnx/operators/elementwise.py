"""Functions of single elements."""

from collections.abc import Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from m2f_jax.inference.export.onnx.graph import Graph, Symbol, Value
from m2f_jax.inference.export.onnx.operators.layout import reshaped
from m2f_jax.inference.export.onnx.operators.values import cast, compact, each, result, wide

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


def plain(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
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
    """Writes powers with a whole exponent."""
    if equation.params["y"] == 2:
        return square(graph, equation, inputs)
    exponent = np.full((1,) * len(inputs[0].shape), equation.params["y"], inputs[0].dtype)
    return each(graph, "Pow", [inputs[0], exponent], *result(equation))


def remainder(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes remainders."""
    shape, dtype = result(equation)
    return graph.add("Mod", [graph.dense(x) for x in inputs], shape, dtype, fmod=1)


def shift(graph: Graph, equation: JaxprEqn, inputs: Sequence[Value]) -> Value:
    """Writes shifts by known numbers of bits, as a product or an exact quotient.

    Raises:
        NotImplementedError: a logical shift to the right of signed numbers, a shift by all bits or
            by an unknown number of bits, or one of an unsupported dtype.
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
