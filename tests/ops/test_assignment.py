"""The assignment costs what SciPy's does, whatever the costs, in few serial steps."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from m2f_jax.ops.assignment import linear_sum_assignment, solve

pytestmark = pytest.mark.optimized

PROBLEMS, MANY, FEW = 12, 17, 9  # so two shapes are compiled


def uniform(rng, shape):
    return rng.random(shape)


def alike(rng, shape):
    """All targets agree which queries are cheap, but for little."""
    problems, targets, queries = shape
    rows, columns = rng.normal(size=(problems, targets, 1)), rng.normal(size=(problems, 1, queries))
    return rows + columns + 0.02 * rng.normal(size=shape)


def whole(rng, shape):
    return rng.integers(-4, 4, shape)


def equal(_, shape):
    return np.full(shape, 2.5)


def low_rank(rng, shape):
    problems, targets, queries = shape
    return rng.normal(size=(problems, targets, 2)) @ rng.normal(size=(problems, 2, queries))


def tiny_differences(rng, shape):
    return 1000 + rng.integers(3, size=shape) / 1024


KINDS = uniform, alike, whole, equal, low_rank, tiny_differences
run = jax.jit(solve)


def check(costs, valid, tolerance):
    """Every problem is solved as SciPy solves it; returns the serial steps."""
    costs = np.asarray(costs, np.float32)
    assignment, steps = run(costs, valid)
    queries = costs.shape[2]
    for cost, found, here in zip(
        costs.astype(np.float64), np.asarray(assignment), valid, strict=True
    ):
        assert (found[~here] == -1).all()
        assigned = np.flatnonzero(found >= 0)
        assert len(assigned) == min(here.sum(), queries)
        assert len(set(found[assigned])) == len(assigned)
        assert found.max(initial=-1) < queries
        best = cost[here][scipy.optimize.linear_sum_assignment(cost[here])].sum()
        total = cost[assigned, found[assigned]].sum()
        assert total - best <= tolerance * np.abs(cost).max()
    return int(steps)


@pytest.mark.parametrize("shape", [(FEW, MANY), (MANY, FEW)], ids=["wide", "tall"])
@pytest.mark.parametrize("kind", KINDS)
def test_as_scipy(kind, shape):
    rng = np.random.default_rng(0)
    valid = np.arange(shape[0]) < np.linspace(0, shape[0], PROBLEMS).round()[:, None]
    valid = rng.permuted(valid, axis=1)
    exact = kind in (whole, equal, tiny_differences)  # sums and differences are
    for _ in range(5):
        check(kind(rng, (PROBLEMS, *shape)), valid, 0 if exact else 1e-6)


def test_one_query():
    check(np.array([[[3.0], [1.0], [2.0]]]), np.array([[True, True, True]]), 0)
    assert linear_sum_assignment(jnp.zeros((1, 1, 1)), jnp.array([[True]])) == 0


@pytest.mark.parametrize("shape", [(FEW, MANY), (MANY, FEW)], ids=["wide", "tall"])
@pytest.mark.parametrize("large", [np.inf, -np.inf, np.nan, 3e38])
def test_ends_whatever_the_costs(shape, large):
    rng = np.random.default_rng(1)
    costs = rng.normal(size=(PROBLEMS, *shape)).astype(np.float32)
    costs[rng.random(costs.shape) < 0.3] = large
    costs[0] = large
    valid = np.ones(costs.shape[:2], bool)
    assignment = np.asarray(run(costs, valid)[0])
    assert ((assignment >= 0).sum(axis=1) == FEW).all()
    assert all(len(set(found[found >= 0])) == FEW for found in assignment)


def test_problems_do_not_see_each_other():
    rng = np.random.default_rng(2)
    costs = np.concatenate([f(rng, (2, FEW, MANY)) for f in KINDS]).astype(np.float32)
    valid = rng.random(costs.shape[:2]) < 0.8
    together, steps = run(costs, valid)
    alone = [run(costs[i : i + 1], valid[i : i + 1]) for i in range(len(costs))]
    np.testing.assert_array_equal(together, np.concatenate([found for found, _ in alone]))
    assert steps <= max(steps for _, steps in alone) + 8  # bidding lasts as long as any bids


@pytest.mark.parametrize(("kind", "most"), [(uniform, 10), (alike, 150), (equal, 2)])
def test_few_steps(kind, most):
    """Scanning one query a step, as optax does, takes 80, 1900 and 2000."""
    costs = kind(np.random.default_rng(3), (10, 64, 200))
    assert check(costs, np.ones((10, 64), bool), 1e-6) <= most


def test_nothing_has_a_derivative():
    costs = jnp.asarray(np.random.default_rng(4).random((1, 3, 4)))
    chosen = functools.partial(linear_sum_assignment, valid=jnp.ones((1, 3), bool))
    gradient = jax.grad(lambda x: (chosen(x) * 1.0).sum())(costs)
    assert not gradient.any()
