"""Times the deformable attention alone beside its peers: same inputs, same machine, one run.

    python benchmarks/deformable_attention.py --size 1024 2048 --dtype bfloat16

The queries are the pixels of the maps at strides 32, 16 and 8, and look at random places around
themselves, as in the pixel decoder. In float32, results and gradients of all must agree; then calls
take turns. README.md beside this file says what each row means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from measuring.machine import check_installed, describe_run
from measuring.options import Compared, Count, OnMachine, Size, compared, parse, settle
from measuring.records import OURS, Comparison, Row
from measuring.tables import Table, say
from measuring.timing import take_turns
from peers import KERNEL, side

STRIDES = (32, 16, 8)
HEAD_WIDTH = 32
SPREAD = 2.0  # pixels of a level between a query and where it looks, as a standard deviation
CLEAR = 0.05  # pixels between such a place and the lines on which the derivative jumps
TOLERANCE = 1e-4  # in float32, relative to the largest number
RESULTS: Sequence[str] = (
    "result",
    "gradient of values",
    "gradient of locations",
    "gradient of weights",
)


@dataclass(frozen=True, kw_only=True)
class Options(OnMachine, Compared):
    """Time the deformable attention alone beside its peers."""

    size: Size = (256, 512)
    """Height and width of the image."""
    heads: Count = 8
    """Heads of the attention, each of 32 channels."""
    points: Count = 4
    """Points of a query in each head and level."""
    repeats: Count = 10
    """How often everything is measured; medians are shown."""
    peers: tuple[Literal["transformers", "torch-ms-deform-attn"], ...] = ("transformers",)
    """What it is compared with; torch-ms-deform-attn needs CUDA."""

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The sizes of the levels."""
        height, width = self.size
        return [(height // stride, width // stride) for stride in STRIDES]


class Inputs(NamedTuple):
    """An operator's inputs, and the gradient of its result: arrays of some framework."""

    values: Any
    locations: Any
    weights: Any
    gradient: Any


def draw(options: Options) -> Inputs:
    """Returns random inputs of one image, in numpy and float32."""
    from m2f_jax.modeling.pixel_decoders.deformable import reference_points

    rng, heads, levels = np.random.default_rng(0), options.heads, len(STRIDES)
    places = np.asarray(reference_points(options.sizes))
    queries = len(places)
    shape = (1, queries, heads, levels, options.points)
    pixels = np.array([(width, height) for height, width in options.sizes])[:, None]
    there = places[:, None, None, None] * pixels - 0.5 + SPREAD * rng.normal(size=(*shape, 2))
    whole = np.floor(there)
    locations = (whole + np.clip(there - whole, CLEAR, 1 - CLEAR) + 0.5) / pixels
    weights = np.exp(rng.normal(size=shape))
    arrays = (
        rng.normal(size=(1, queries, heads, HEAD_WIDTH)),
        locations,
        weights / weights.sum((-2, -1), keepdims=True),
        rng.normal(size=(1, queries, heads * HEAD_WIDTH)),
    )
    return Inputs(*(x.astype(np.float32) for x in arrays))


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest number."""
    return float(abs(one - other).max() / abs(other).max())


def compare(sides: Mapping[str, Any], dtype: str) -> dict[str, dict[str, float]]:
    """Returns how far results and gradients are apart, in float32 and because of another dtype.

    Raises:
        SystemExit: these aren't the same function.
    """
    exact = {name: side.fetch(side.both("float32")()) for name, side in sides.items()}
    found = {
        f"from {peer}": dict(
            zip(RESULTS, map(relative_difference, exact[OURS], theirs), strict=True)
        )
        for peer, theirs in exact.items()
        if peer != OURS
    }
    for peer, differences in found.items():
        for name, difference in differences.items():
            if not difference <= TOLERANCE:
                raise SystemExit(f"the {name} differs by {difference:.1e} {peer}")
    if dtype != "float32":
        for name, side in sides.items():
            rounded = map(relative_difference, side.fetch(side.both(dtype)()), exact[name])
            found[f"{name}, {dtype} from float32"] = dict(zip(RESULTS, rounded, strict=True))
    return found


def table_of(agreement: Mapping[str, Mapping[str, float]]) -> Table:
    """Returns the differences, a line for each array."""
    lines = [[name, *(f"{x[name]:.1e}" for x in agreement.values())] for name in RESULTS]
    return Table("largest differences, relative to the largest number", ["", *agreement], lines)


def measure(options: Options) -> tuple[dict[str, dict[str, float]], list[Row]]:
    """Returns how far the operators are apart, and the table."""
    inputs, dtype, rows = draw(options), options.dtype, []
    sides = {name: side(name, "Operator")(options, inputs) for name in (OURS, *options.peers)}
    say("results and gradients")
    agreement = compare(sides, dtype)
    calls = {
        "forward": {name: side.forward(dtype) for name, side in sides.items()},
        "forward and gradient": {name: side.both(dtype) for name, side in sides.items()},
    }
    for name, turns in calls.items():
        say(name)
        rows.append(Row.timed(name, take_turns(turns, options.repeats)))
    memory = {name: side.memory(dtype) for name, side in sides.items()}
    for name in calls:
        mib = {side: found[name] / 2**20 for side, found in memory.items() if name in found}
        rows.append(Row.of(f"{name}, memory beside inputs", "MiB", mib))
    return agreement, rows


def main(arguments: Sequence[str] | None = None):
    """Checks and times the operators and prints one table."""
    options = parse(Options, arguments)
    check_installed(options.peers)
    options = settle(options)
    if KERNEL in options.peers and options.device != "cuda":
        raise SystemExit(f"--peers: {KERNEL} needs a CUDA device")
    notes = describe_run({"median of": options.repeats}, peers=options.peers)
    comparison = Comparison("deformable_attention", options, compared(options), notes)
    agreement, rows = measure(options)
    queries = sum(height * width for height, width in options.sizes)
    title = f"deformable attention, {queries:,} queries"
    comparison.publish(title, rows, others=[table_of(agreement)], agreement=agreement)


if __name__ == "__main__":
    main()
