"""Times the matching of a training step: ours beside optax's under vmap and SciPy, in one run.

    python benchmarks/matching.py

Each row is one batch of problems, of some kind of costs: "queries alike" and "queries apart" are
costs of real losses, of masks at random points, where all queries predict nearly the same or each
its own mask (some of them a target's); the others are made up. Every assignment must cost what
SciPy's does. The steps are those of the slowest problem, one after another on a device; optax's are
counted in a copy of its algorithm that is run on the host.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import scipy.optimize
from measuring.machine import describe_run, limit_threads
from measuring.matching_costs import SHAPES, draw_costs
from measuring.options import Compared, Count, compared, parse
from measuring.records import OURS, Comparison, Row
from measuring.tables import say
from measuring.timing import take_turns
from peers.matchers import count_steps, ours, theirs


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Time the matching of a training step: ours beside optax's under vmap and SciPy."""

    problems: Count = 40
    """Problems of each kind and shape, solved at once."""


def compare(name: str, costs: np.ndarray, repeats: int) -> list[Row]:
    """Returns the rows of one batch of problems.

    Raises:
        SystemExit: an assignment isn't the best.
    """
    costs = costs.astype(np.float32)
    on_device, valid = jnp.asarray(costs), jnp.ones(costs.shape[:2], bool)
    assignment, steps = ours(on_device, valid)
    for cost, query in zip(costs.astype(np.float64), np.asarray(assignment), strict=True):
        best = cost[scipy.optimize.linear_sum_assignment(cost)].sum()
        found = cost[np.arange(len(query)), query].sum()
        if len(set(query)) < len(query) or found - best > 1e-6 * len(query) * np.abs(cost).max():
            raise SystemExit(f"{name}: {found} is more than SciPy's {best}")
    calls = {
        OURS: lambda: jax.block_until_ready(ours(on_device, valid)),
        "optax": lambda: jax.block_until_ready(theirs(on_device)),
        "SciPy": lambda: [scipy.optimize.linear_sum_assignment(x) for x in np.asarray(on_device)],
    }
    counts = {OURS: int(steps), "optax": max(map(count_steps, costs.astype(np.float64)))}
    return [Row.timed(name, take_turns(calls, repeats)), Row.of(name, "steps", counts)]


def main(arguments: Sequence[str] | None = None):
    """Times everything and prints one table."""
    options = parse(Options, arguments)
    settings = compared(
        options,
        jax.devices()[0].device_kind,
        shapes=", ".join("{} x {}".format(*shape) for shape in SHAPES),
        threads=limit_threads(None),
        peers="optax, SciPy",
    )
    notes = describe_run({"median of": options.repeats}, "optax", "scipy")
    comparison, rows = Comparison("matching", options, settings, notes), []
    for shape in SHAPES:
        for kind, costs in draw_costs(np.random.default_rng(0), (options.problems, *shape)):
            name = "{}, {} x {}".format(kind, *shape)
            say(name)
            rows += compare(name, costs, options.repeats)
    comparison.publish(f"matching, {options.problems} problems at once; SciPy on the host", rows)


if __name__ == "__main__":
    main()
