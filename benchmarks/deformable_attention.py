"""Times the deformable attention alone beside its peers: same inputs, same machine, one run.

    python benchmarks/deformable_attention.py --size 1024 2048 --dtype bfloat16

In float32, results and gradients of all must agree; then calls take turns. README.md beside this
file says what each row means.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from measuring.machine import check_installed, describe_run
from measuring.options import Compared, Count, OnMachine, Size, compared, parse, settle
from measuring.records import OURS, Comparison, Row
from measuring.tables import Table, say
from measuring.timing import take_turns
from peers import KERNEL, side
from peers.operators.agreement import RESULTS, compare
from peers.operators.inputs import HEADS, POINTS, draw, level_sizes


@dataclass(frozen=True, kw_only=True)
class Options(OnMachine, Compared):
    """Time the deformable attention alone beside its peers."""

    size: Size = (256, 512)
    """Height and width of the image."""
    heads: Count = HEADS
    """Heads of the attention, each of 32 channels."""
    points: Count = POINTS
    """Points of a query in each head and level."""
    repeats: Count = 10
    """How often everything is measured; medians are shown."""
    peers: tuple[Literal["transformers", "torch-ms-deform-attn"], ...] = ("transformers",)
    """What it is compared with; torch-ms-deform-attn needs CUDA."""

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """The sizes of the levels."""
        return level_sizes(self.size)


def table_of(agreement: Mapping[str, Mapping[str, float]]) -> Table:
    """Returns the differences, a line for each array."""
    lines = [[name, *(f"{x[name]:.1e}" for x in agreement.values())] for name in RESULTS]
    return Table("largest differences, relative to the largest number", ["", *agreement], lines)


def measure(options: Options) -> tuple[dict[str, dict[str, float]], list[Row]]:
    """Returns how far the operators are apart, and the table."""
    sizes, dtype, rows = options.sizes, options.dtype, []
    inputs = draw(sizes, options.heads, options.points)
    sides = {
        name: side(name, "Operator")(inputs, sizes, options.device, options.threads)
        for name in (OURS, *options.peers)
    }
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
