"""The ONNX form of each primitive of JAX that the models use.

As in a jaxpr, all shapes are known, and the arguments of an elementwise primitive have one shape
(in the file, broadcast axes may have the length 1).
"""

from m2f_jax.inference.export.onnx.graph import Operator
from m2f_jax.inference.export.onnx.operators import (
    elementwise,
    indexing,
    layout,
    loops,
    products,
    reductions,
)

OPERATORS: dict[str, Operator] = {
    **dict.fromkeys(elementwise.ELEMENTWISE, elementwise.plain),
    **dict.fromkeys(elementwise.COMPARISONS, elementwise.comparison),
    **dict.fromkeys(elementwise.LOGICAL, elementwise.logical),
    **dict.fromkeys(reductions.REDUCTIONS, reductions.reduce),
    **dict.fromkeys(("reduce_or", "reduce_and"), reductions.reduce_logical),
    **dict.fromkeys(("argmax", "argmin"), reductions.arg),
    **dict.fromkeys(
        ("shift_left", "shift_right_logical", "shift_right_arithmetic"), elementwise.shift
    ),
    **dict.fromkeys(("reshape", "squeeze"), layout.reshape),
    "rsqrt": elementwise.rsqrt,
    "square": elementwise.square,
    "integer_pow": elementwise.integer_pow,
    "rem": elementwise.remainder,
    "select_n": elementwise.select,
    "clamp": elementwise.clamp,
    "convert_element_type": elementwise.convert,
    "broadcast_in_dim": layout.broadcast,
    "transpose": layout.transpose,
    "concatenate": layout.concatenate,
    "stack": layout.stack,
    "unstack": layout.unstack,
    "split": layout.split,
    "slice": layout.slice_,
    "rev": layout.reverse,
    "pad": layout.pad,
    "cumsum": reductions.cumsum,
    "top_k": reductions.top_k,
    "sort": reductions.sort,
    "dot_general": products.dot_general,
    "conv_general_dilated": products.convolution,
    "reduce_window_max": reductions.max_pool,
    "gather": indexing.gather,
    "dynamic_slice": indexing.dynamic_slice,
    "dynamic_update_slice": indexing.dynamic_update_slice,
    "scan": loops.scan,
    "while": loops.while_,
}
