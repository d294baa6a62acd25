"""Times products of the shapes of a network in several number formats, on a CPU.

    python benchmarks/number_formats.py --repeats 9

There is no peer, and no network is run. README.md beside this file says what each column
means.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int8
from measuring.machine import describe_run, limit_threads, share_device
from measuring.options import Count, Reported, parse
from measuring.programs import Program
from measuring.tables import Table, publish, say
from measuring.timing import take_turns

from m2f_jax.ops import convolutions

AROUND = ((1, 1), (1, 1))  # the padding of a 3 x 3 convolution
SHAPES = (  # rows, what is summed over, columns: of Swin-T and the pixel decoder at 384 x 384
    (9216, 96, 384),
    (9216, 384, 96),
    (2304, 192, 768),
    (576, 384, 1536),
    (144, 768, 3072),
    (3024, 256, 1024),
    (3024, 1024, 256),
)
SIDE, CHANNELS = 96, 256  # of the map that the pixel decoder's convolution gets at 384 x 384
LARGEST = 127  # of int8
Calls = dict[str, tuple[Callable[..., Array], Any]]  # functions and arguments by column


@dataclass(frozen=True, kw_only=True)
class Options(Reported):
    """Time products of the shapes of a network in several number formats, on a CPU."""

    repeats: Count = 9
    """How often everything is measured; medians are shown."""
    divide: Count = 1
    """Divide the rows and the map's sides by this number, for a quick run."""


def quantised(x: Float[Array, "n m"], axis: int) -> tuple[Int8[Array, "n m"], Float[Array, "..."]]:
    """Returns `x` as int8 and the factors that undo it: symmetric, one for each slice of `axis`."""
    factor = jnp.maximum(jnp.abs(x).max(axis, keepdims=True) / LARGEST, 1e-30)
    return jnp.round(x / factor).astype(jnp.int8), factor


def in_float32(a: Array, b: Array) -> Array:
    """Returns a product at full precision."""
    return jax.lax.dot(a, b, precision="highest")


def with_float32_result(a: Array, b: Array) -> Array:
    """Returns a product of bfloat16, as m2f_jax/ops/products.py has it."""
    return jax.lax.dot(a, b, preferred_element_type=jnp.float32)


def with_int8_weights(a: Array, b: Int8[Array, "k n"], factor: Array) -> Array:
    """Returns a bfloat16 product with weights stored as int8, one factor for each column."""
    return with_float32_result(a, b.astype(jnp.bfloat16)) * factor


def in_int8(a: Int8[Array, "m k"], b: Int8[Array, "k n"]) -> Array:
    """Returns a product of int8 with an int32 result, without its factors."""
    return jax.lax.dot(a, b, preferred_element_type=jnp.int32)


def quantised_on_the_way(a: Array, b: Int8[Array, "k n"], factor: Array) -> Array:
    """Returns an int8 product whose first operand is given in bfloat16."""
    rows, of_rows = quantised(a.astype(jnp.float32), 1)
    return in_int8(rows, b) * of_rows * factor


def convolve(a: Array, kernel: Array) -> Array:
    """Returns a 3 x 3 convolution with a float32 result, as XLA computes it."""
    return jax.lax.conv_general_dilated(
        a,
        kernel,
        (1, 1),
        AROUND,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
        preferred_element_type=jnp.float32,
    )


def drawn(*shape: int) -> Array:
    """Returns random numbers."""
    return jnp.asarray(np.random.default_rng(0).standard_normal(shape, np.float32))


def product_calls(rows: int, inner: int, columns: int) -> Calls:
    """Returns the function and the arguments of each column of the first table."""
    a, b = drawn(rows, inner), drawn(inner, columns)
    low, weights = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    small, factor = quantised(b, 0)
    return {
        "float32": (in_float32, (a, b)),
        "bfloat16": (jax.lax.dot, (low, weights)),
        "with a float32 result": (with_float32_result, (low, weights)),
        "int8 weights": (with_int8_weights, (low, small, factor)),
        "int8": (in_int8, (quantised(a, 1)[0], small)),
        "int8, rows quantised": (quantised_on_the_way, (low, small, factor)),
    }


def convolution_calls(side: int) -> Calls:
    """Returns the function and the arguments of each column of the second table."""
    a, kernel = drawn(1, side, side, CHANNELS), drawn(3, 3, CHANNELS, CHANNELS)
    low = a.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16)
    in_fours = functools.partial(convolutions.convolve_in_fours, padding=AROUND)
    in_strips = functools.partial(convolutions.convolve_in_strips, padding=AROUND)
    return {
        "float32": (convolve, (a, kernel)),
        "float32 in fours": (in_fours, (a, kernel)),
        "bfloat16": (convolve, low),
        "in strips": (in_strips, low),
    }


def rates(calls: Calls, flop: int, repeats: int) -> dict[str, float]:
    """Returns the GFLOP/s of each column, from calls that take turns."""
    compiled = {
        name: Program.compile(jax.jit(function), *arguments).call(*arguments)
        for name, (function, arguments) in calls.items()
    }
    seconds = take_turns(compiled, repeats)
    return {name: flop / median(times) / 1e9 for name, times in seconds.items()}


def main(arguments: Sequence[str] | None = None):
    """Measures all shapes and prints two tables."""
    options = parse(Options, arguments)
    share_device("cpu")
    limit_threads(None)
    notes = describe_run({"median of": options.repeats})
    rows = []
    for height, inner, columns in SHAPES:
        height = max(1, height // options.divide)
        shape = f"{height} x {inner} x {columns}"
        say(shape)
        calls = product_calls(height, inner, columns)
        found = rates(calls, 2 * height * inner * columns, options.repeats)
        rows.append({"shape": shape, **found})
    side = max(1, SIDE // options.divide)
    flop = 2 * 9 * (side * CHANNELS) ** 2
    convolution = {
        "map": f"{side} x {side} x {CHANNELS}",
        **rates(convolution_calls(side), flop, options.repeats),
    }
    tables = {
        "Products, GFLOP/s": rows,
        f"3 x 3 convolutions of {CHANNELS} channels, GFLOP/s": [convolution],
    }
    shown = [Table.of(title, records) for title, records in tables.items()]
    content = {"benchmark": "number_formats", **notes, "tables": tables}
    publish(options, shown, notes, content)


if __name__ == "__main__":
    main()
