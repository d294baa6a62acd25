"""Times the matching of a training step: ours beside optax's under vmap and SciPy, in one run.

    python benchmarks/matching.py

Each row is one batch of problems, of some kind of costs: "queries alike" and "queries apart" are
costs of real losses, of masks at random points, where all queries predict nearly the same or each
its own mask (some of them a target's); the others are made up. Every assignment must cost what
SciPy's does. The steps are those of the slowest problem, one after another on a device; optax's are
counted in a copy of its algorithm that is run on the host.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import optax
import scipy.optimize
from measuring.machine import describe_run, limit_threads
from measuring.options import Compared, Count, compared, parse
from measuring.records import OURS, Comparison, Row
from measuring.tables import say
from measuring.timing import take_turns

from m2f_jax.ops.assignment import solve
from m2f_jax.structures import Predictions
from m2f_jax.training import LossConfig
from m2f_jax.training.losses.criterion import factor
from m2f_jax.training.losses.matching import matching_costs

SHAPES = ((64, 200), (100, 100))  # targets and queries
NUM_CLASSES, MAP, POINTS = 8, (32, 64), 1000  # a quarter of the targets' size, fewer points

ours = jax.jit(solve)
theirs = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Time the matching of a training step: ours beside optax's under vmap and SciPy."""

    problems: Count = 40
    """Problems of each kind and shape, solved at once."""


def draw_ellipses(rng: np.random.Generator, count: int, size: tuple[int, int]) -> np.ndarray:
    """Returns masks of ellipses of many sizes."""
    y, x = np.mgrid[: size[0], : size[1]]
    centre_y, centre_x = (
        rng.uniform(0, size[0], (count, 1, 1)),
        rng.uniform(0, size[1], (count, 1, 1)),
    )
    half_height, half_width = np.exp(rng.uniform(1, 4, (2, count, 1, 1)))
    return ((y - centre_y) / half_height) ** 2 + ((x - centre_x) / half_width) ** 2 < 1


def draw_case(
    rng: np.random.Generator, num_targets: int, num_queries: int, *, alike: bool
) -> tuple[Predictions, np.ndarray, np.ndarray]:
    """Returns one image's predictions, target classes and target masks."""
    height, width = MAP
    labels = rng.integers(NUM_CLASSES, size=num_targets)
    masks = draw_ellipses(rng, num_targets, (4 * height, 4 * width))
    class_logits = rng.normal(size=(num_queries, NUM_CLASSES + 1))
    if alike:
        features = rng.normal(size=(16, 4, 8)).repeat(height // 4, 1).repeat(width // 8, 2)
        embeddings = rng.normal(size=16) + 0.05 * rng.normal(size=(num_queries, 16))
        mask_logits = np.einsum("qe,ehw->qhw", embeddings, features)
        class_logits = class_logits[:1] + 0.05 * class_logits
    else:
        own = draw_ellipses(rng, num_queries, MAP)
        near = rng.permutation(num_queries)[: num_targets // 2]
        own[near] = masks[: len(near), ::4, ::4]
        class_logits[near, labels[: len(near)]] += 3
        mask_logits = 8 * own - 4 + rng.normal(size=own.shape)
    arrays = (jnp.asarray(x, jnp.float32) for x in (class_logits, mask_logits))
    return Predictions(*arrays), labels, masks


def real_costs(rng: np.random.Generator, shape: tuple[int, int, int], *, alike: bool) -> np.ndarray:
    """Returns costs of matching, of as many images as there are problems."""
    problems, num_targets, num_queries = shape
    config, costs = LossConfig(), []
    for _ in range(problems):
        predictions, labels, masks = draw_case(rng, num_targets, num_queries, alike=alike)
        costs.append(
            matching_costs(
                factor((Predictions(*(x[None] for x in predictions)),)),
                jnp.asarray(labels)[None],
                jnp.asarray(masks)[None],
                jnp.asarray(rng.random((1, 1, POINTS, 2)), jnp.float32),
                config=config,
            )[0, 0]
        )
    return np.stack(costs)


def draw_costs(
    rng: np.random.Generator, shape: tuple[int, int, int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields batches of problems with their names."""
    problems, num_targets, num_queries = shape
    columns, rows = (problems, 1, num_queries), (problems, num_targets, 1)
    yield "queries alike", real_costs(rng, shape, alike=True)
    yield "queries apart", real_costs(rng, shape, alike=False)
    yield "uniform", rng.random(shape)
    common = rng.normal(size=rows) + rng.normal(size=columns)
    yield "a sum and little more", common + 0.05 * rng.normal(size=shape)
    yield "whole numbers to 5", rng.integers(5, size=shape).astype(float)
    yield "all equal", np.ones(shape)


def count_steps(cost: np.ndarray) -> int:
    """Returns how many queries optax's algorithm scans, one after another: its inner steps."""
    num_targets, num_queries = cost.shape
    v, owner, steps = np.zeros(num_queries), np.full(num_queries, -1), 0
    u = np.zeros(num_targets)
    for first in range(num_targets):
        slack, before = np.full(num_queries, np.inf), np.full(num_queries, -1)
        used, rows, target, query = np.zeros(num_queries, bool), [first], first, -1
        while target >= 0:
            steps += 1
            reduced = cost[target] - u[target] - v
            nearer = (reduced < slack) & ~used
            slack[nearer], before[nearer] = reduced[nearer], query
            query = int(np.where(used, np.inf, slack).argmin())
            rise = slack[query]
            u[rows] += rise
            v[used] -= rise
            slack[~used] -= rise
            used[query], target = True, owner[query]
            rows.append(target)
        while query >= 0:
            previous = before[query]
            owner[query] = owner[previous] if previous >= 0 else first
            query = previous
    return steps


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
