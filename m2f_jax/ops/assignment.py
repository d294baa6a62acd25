"""The linear sum assignment on the device: many problems at once, exact, in few serial steps.

The dual problem prices the queries: prices start at 0 and only rise, an unassigned query costs
nothing, and each target's query is the cheapest for it once prices are added. Two stages keep this
true, and all problems go through them in lockstep:

1. A few rounds of bidding, all free targets at once (Bertsekas, 1979; without an epsilon, hence the
   augmenting row reduction of Jonker and Volgenant, 1987): a target takes its cheapest query, from
   its owner if need be, and raises the price until its second choice is as good.
2. Shortest augmenting paths from all free targets at once. Every step relaxes all edges, so it
   takes as many as a path has edges; Dijkstra's algorithm, which scans one query a step, takes as
   many as there are queries nearer than the end. The paths form a forest. Up to the distance at
   which some tree reaches a second free query, prices rise so that all tree edges are tight, and
   every tree that has reached a free query by then is augmented: those paths share no vertex.

Axes: N problems, M targets, Q queries.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

BIDDING_ROUNDS = 8
RELAXATIONS = 2  # per step of the search
PATH_EDGES = 4  # targets of a path that get their new query in one step


class Search(NamedTuple):
    """The state of stage 2. "None" is Q for a query and M for a target."""

    query: Int[Array, "N M"]  # of each target
    prices: Float[Array, "N Q"]
    distance: Float[Array, "N Q"]  # from the nearest free target
    target: Int[Array, "N Q"]  # the target before each query on its path
    root: Int[Array, "N Q"]  # the free target at which that path begins
    ends: Int[Array, "N M"]  # the next query to hand over on each root's path; none: no augmenting
    steps: Int[Array, ""]


def linear_sum_assignment(
    costs: Float[Array, "N M Q"], valid: Bool[Array, "N M"]
) -> Int[Array, "N M"]:
    """Returns each target's query such that the sum of costs is least; -1 for none.

    As many targets as possible are assigned: all valid ones, or Q of them where there are more. The
    sum equals that of `scipy.optimize.linear_sum_assignment` up to rounding in float32, and exactly
    for costs whose sums and differences float32 represents.

    Args:
        costs: read in float32; infinite or larger than 1e30 is the same as 1e30, and nan too.
        valid: which targets take part.
    """
    return solve(costs, valid)[0]


def solve(
    costs: Float[Array, "N M Q"], valid: Bool[Array, "N M"]
) -> tuple[Int[Array, "N M"], Int[Array, ""]]:
    """Returns the assignment, and how many serial steps the slowest problem took."""
    _, num_targets, num_queries = costs.shape
    costs = jax.lax.stop_gradient(costs).astype(jnp.float32)
    costs = jnp.clip(jnp.nan_to_num(costs, nan=1e30), -1e30, 1e30)
    if num_targets > num_queries:  # what a target in excess gets: a query for free
        excess = valid.sum(axis=1, keepdims=True) - num_queries
        free = jnp.arange(num_targets - num_queries) < excess
        free = jnp.where(free, 0.0, jnp.inf)[:, None, :]
        free = jnp.broadcast_to(free, (*costs.shape[:2], num_targets - num_queries))
        costs = jnp.concatenate([costs, free], axis=2)
    query, prices, rounds = bid(costs, valid)
    query, steps = augment(costs, valid, query, prices)
    return jnp.where(query < num_queries, query, -1), rounds + steps


def cheapest(values: Float[Array, "N A B"], axis: int) -> tuple[Array, Array]:
    """Returns the least value and its index along an axis, as two plain reductions.

    Of equal values each row takes another one, so that not all meet at the same.
    """
    least = values.min(axis=axis, keepdims=True)
    size = values.shape[axis]
    index = jax.lax.broadcasted_iota(jnp.int32, values.shape, axis)
    other = jax.lax.broadcasted_iota(jnp.int32, values.shape, 3 - axis)
    rank = (index + other) % size
    rank = jnp.where(values == least, rank, size).min(axis=axis)
    index = (rank - jnp.arange(values.shape[3 - axis])) % size
    return least.squeeze(axis), index


def take(values: Array, index: Int[Array, "N K"], default) -> Array:
    """Returns `values` [N, L] at each problem's indices, or `default` where the index is L."""
    return jnp.take_along_axis(values, index, axis=1, mode="fill", fill_value=default)


def put(values: Array, index: Int[Array, "N K"], new) -> Array:
    """Returns `values` [N, L] with `new` at each problem's indices, but for indices equal to L."""
    new = jnp.broadcast_to(new, index.shape)
    return jax.vmap(lambda values, index, new: values.at[index].set(new, mode="drop"))(
        values, index, new
    )


def bid(
    costs: Float[Array, "N M Q"], valid: Bool[Array, "N M"]
) -> tuple[Int[Array, "N M"], Float[Array, "N Q"], Int[Array, ""]]:
    """Runs stage 1; returns some targets' queries, prices that make these cheapest, and rounds."""
    num_problems, num_targets, num_queries = costs.shape
    queries = jnp.arange(num_queries)

    def unfinished(state):
        query, _, rounds = state
        return (rounds < BIDDING_ROUNDS) & (valid & (query == num_queries)).any()

    def step(state):
        query, prices, rounds = state
        bidding = valid & (query == num_queries)
        priced = costs + prices[:, None, :]
        first, choice = cheapest(priced, axis=2)
        second = jnp.where(queries == choice[..., None], jnp.inf, priced).min(axis=2)
        rise = second - first
        bids = (queries == choice[..., None]) & bidding[..., None]
        rises, winner = cheapest(jnp.where(bids, -rise[..., None], jnp.inf), axis=1)
        sold = jnp.isfinite(rises)
        won = bidding & (take(winner, choice, num_targets) == jnp.arange(num_targets))
        query = jnp.where(take(sold, query, False), num_queries, query)
        query = jnp.where(won, choice, query)
        return query, prices - jnp.where(sold, rises, 0.0), rounds + 1

    query = jnp.full((num_problems, num_targets), num_queries, jnp.int32)
    prices = jnp.zeros((num_problems, num_queries), jnp.float32)
    return jax.lax.while_loop(unfinished, step, (query, prices, jnp.zeros((), jnp.int32)))


def augment(
    costs: Float[Array, "N M Q"],
    valid: Bool[Array, "N M"],
    query: Int[Array, "N M"],
    prices: Float[Array, "N Q"],
) -> tuple[Int[Array, "N M"], Int[Array, ""]]:
    """Runs stage 2, given stage 1's results; returns all valid targets' queries, and its steps."""
    num_problems, num_targets, num_queries = costs.shape
    targets, queries = jnp.arange(num_targets), jnp.arange(num_queries)
    shape = num_problems, num_queries
    nowhere = jnp.full(shape, jnp.inf, jnp.float32), jnp.full(shape, num_targets, jnp.int32)

    def unfinished(state):
        return (valid & (state.query == num_queries)).any()

    def relax(slack, free, query, distance, target, root):
        start = jnp.where(free, 0.0, take(distance, query, jnp.inf))
        start_root = jnp.where(free, targets, take(root, query, num_targets))
        through, before = cheapest(start[..., None] + slack, axis=1)
        nearer = through < distance
        target = jnp.where(nearer, before, target)
        return jnp.where(nearer, through, distance), target, take(start_root, target, num_targets)

    def step(state):
        walking = (state.ends < num_queries).any(axis=1, keepdims=True)
        free = valid & (state.query == num_queries)

        # Distances: what is left of a target's cost once its cheapest query's is subtracted.
        priced = costs + state.prices[:, None, :]
        slack = priced - priced.min(axis=2, keepdims=True)
        distance, target, root = state.distance, state.target, state.root
        before = distance, root
        for _ in range(RELAXATIONS):
            before = distance, root
            distance, target, root = relax(slack, free, state.query, distance, target, root)

        # The two nearest free queries of each tree; how far all trees may grow.
        assigned = put(jnp.zeros(shape, bool), state.query, True)
        leaves = (root[:, None, :] == targets[:, None]) & ~assigned[:, None, :]
        leaves = jnp.where(leaves, distance[:, None, :], jnp.inf)
        nearest, leaf = cheapest(leaves, axis=2)
        second = jnp.where(queries == leaf[..., None], jnp.inf, leaves).min(axis=2)
        found = jnp.isfinite(nearest)
        reach = jnp.where(found, nearest, -jnp.inf).max(axis=1)
        reach = jnp.minimum(reach, second.min(axis=1))[:, None]

        # Distances and trees up to there are final when the last relaxation left them alone.
        changed = ((distance != before[0]) & (distance < reach)) | (
            (root != before[1]) & (distance <= reach)
        )
        settled = found.any(axis=1, keepdims=True) & ~changed.any(axis=1, keepdims=True) & ~walking
        rise = jnp.where(settled, jnp.maximum(reach - distance, 0.0), 0.0)
        ends = jnp.where(settled & (nearest <= reach), leaf, state.ends)

        # From its end to its root, each target of a path leaves its query to the one before.
        tree = jnp.where(walking, state.target, target)
        movers, moves = [], []
        for _ in range(PATH_EDGES):
            moves.append(ends)
            movers.append(take(tree, ends, num_targets))
            ends = take(state.query, movers[-1], num_queries)
        query = put(state.query, jnp.concatenate(movers, 1), jnp.concatenate(moves, 1))
        done = (walking | settled) & ~(ends < num_queries).any(axis=1, keepdims=True)
        return Search(
            query=query,
            prices=state.prices + rise,
            distance=jnp.where(done, nowhere[0], distance),
            target=jnp.where(done, nowhere[1], tree),
            root=jnp.where(done, nowhere[1], root),
            ends=ends,
            steps=state.steps + 1,
        )

    start = Search(
        query=query,
        prices=prices,
        distance=nowhere[0],
        target=nowhere[1],
        root=nowhere[1],
        ends=jnp.full(query.shape, num_queries, jnp.int32),
        steps=jnp.zeros((), jnp.int32),
    )
    end = jax.lax.while_loop(unfinished, step, start)
    return end.query, end.steps
