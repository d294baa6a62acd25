"""The sides of matching.py on a device: ours, and optax's under vmap."""

import jax
import numpy as np
import optax

from m2f_jax.ops.assignment import solve

ours = jax.jit(solve)
theirs = jax.jit(jax.vmap(optax.assignment.hungarian_algorithm))


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
