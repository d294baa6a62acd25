"""The operators alone, beside their peers."""

import functools
from typing import Any

import deformable_attention
import jax
import jax.numpy as jnp
import matching
import numpy as np
from measuring.timing import Call
from peers import OURS, THEIRS, side

from gpu_rows.suite.job import Job, Measuring, time_call


def measure_deformable(job: Job) -> Measuring:
    """Measures one layer's deformable attention, forward and with its gradient, on both sides."""
    device: Any = job.device
    options = deformable_attention.Options(size=job.scale.size, device=device, threads=1)
    inputs = deformable_attention.draw(options)
    sides = {name: side(name, "Operator")(options, inputs) for name in (OURS, THEIRS)}
    agreement = deformable_attention.compare(sides, "float32")
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
    for shape in matching.SHAPES if job.device == "cuda" else ((4, 8),):
        rng = np.random.default_rng(0)
        for kind, costs in matching.draw_costs(rng, (job.scale.problems, *shape)):
            arrays = jax.device_put(jnp.asarray(costs, jnp.float32), device)
            valid = jax.device_put(jnp.ones(costs.shape[:2], bool), device)
            name = "{}, {} x {}".format(kind, *shape)
            calls[f"{name}, ours"] = functools.partial(matching.ours, arrays, valid)
            calls[f"{name}, optax"] = functools.partial(matching.theirs, arrays)
    for call in calls.values():
        jax.block_until_ready(call())
    yield
    waited = jax.block_until_ready
    return [time_call(name, Call(call, waited)) for name, call in calls.items()], {}
