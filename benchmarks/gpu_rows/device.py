"""The device itself."""

import jax
import jax.numpy as jnp
from measuring.timing import Call

from gpu_rows.suite.job import Job, Measuring, figure, time_call


def measure(job: Job) -> Measuring:
    """Measures the most that the device can do: bytes copied, and products of random matrices."""
    side, numbers = (8192, 2**29) if job.device == "cuda" else (256, 2**16)
    device = job.jax_device()
    keys = jax.random.split(jax.random.key(0), 3)
    with jax.default_device(device):
        a, b = (jax.random.normal(key, (side, side), jnp.bfloat16) for key in keys[:2])
        x = jax.random.normal(keys[2], (numbers,), jnp.bfloat16)
    copy, multiply = jax.jit(lambda x: x + 1), jax.jit(lambda a, b: a @ b)
    calls = [
        Call(lambda: copy(x), jax.block_until_ready),
        Call(lambda: multiply(a, b), jax.block_until_ready),
    ]
    for call in calls:
        call()
    yield
    copied, product = (time_call("", call)["value"] for call in calls)
    memory = device.memory_stats() or {}
    name = f"product of {side} x {side} in bfloat16"
    return [
        figure("copying, bytes read and written", 4 * numbers / copied / 1e9, "TB/s"),
        figure(name, 2 * side**3 / product / 1e9, "TFLOP/s"),
        figure("memory", memory.get("bytes_limit", 0) / 2**30, "GiB"),
    ], {}
