"""The operators alone, beside their peers."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from measuring.matching_costs import SHAPES, draw_costs
from measuring.timing import Call
from peers import OURS, THEIRS, matchers, side
from peers.operators.agreement import compare
from peers.operators.inputs import draw, level_sizes

from gpu_rows.suite.job import Job, Measuring, time_call


def measure_deformable(job: Job) -> Measuring:
    """Measures one layer's deformable attention, forward and with its gradient, on both sides."""
    sizes = level_sizes(job.scale.size)
    inputs = draw(sizes)
    sides = {name: side(name, "Operator")(inputs, sizes, job.device, 1) for name in (OURS, THEIRS)}
    agreement = compare(sides, "float32")
    calls = {
        f"{what}, {who}": make("bfloat16")
        for who, operator in zip(("ours", THEIRS), sides.values(), strict=True)
        for what, make in (("forward", operator.forward), ("forward and gradient", operator.both))
    }
    for call in calls.values():
        call()
    yield
    return [time_call(name, Call(call, lambda result: result)) for name, call in calls.items()], {
        "agreement": agreement
    }


def measure_matching(job: Job) -> Measuring:
    """Measures the matching of a training step, ours beside optax's."""
    device = job.jax_device()
    calls = {}
    for shape in SHAPES if job.device == "cuda" else ((4, 8),):
        rng = np.random.default_rng(0)
        for kind, costs in draw_costs(rng, (job.scale.problems, *shape)):
            arrays = jax.device_put(jnp.asarray(costs, jnp.float32), device)
            valid = jax.device_put(jnp.ones(costs.shape[:2], bool), device)
            name = "{}, {} x {}".format(kind, *shape)
            calls[f"{name}, ours"] = functools.partial(matchers.ours, arrays, valid)
            calls[f"{name}, optax"] = functools.partial(matchers.theirs, arrays)
    for call in calls.values():
        jax.block_until_ready(call())
    yield
    waited = jax.block_until_ready
    return [time_call(name, Call(call, waited)) for name, call in calls.items()], {}
