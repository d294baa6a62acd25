"""Whole training steps, as in training.py."""

import os
import time
from typing import Any

from measuring.timing import timed
from peers import OURS, side
from peers.trainers.batches import Settings, draw_batch

from gpu_rows.suite.job import Job, Measuring, describe_size, figure, median
from gpu_rows.suite.kernel_times import kernel_times
from m2f_jax.training import LossConfig, OptimizerConfig

BATCHES = 4  # that come by turns


def load(job: Job, name: str) -> tuple[Any, list[Any]]:
    """Returns one side, and batches on the device."""
    scale = job.scale
    settings = Settings(
        size=scale.train_size,
        batch=scale.train_batch,
        steps=10 * scale.train_steps,  # of the schedule, whose end isn't reached
        dtype="bfloat16",
        device=job.device,
        tf32=True,
        threads=os.cpu_count() or 1,
        loss=LossConfig() if job.device == "cuda" else LossConfig(num_points=64),
        optimizer=OptimizerConfig(),
    )
    trainer = side(name, "Trainer")(job.our_weights(), settings)
    classes = scale.config.num_classes
    return trainer, [trainer.place(draw_batch(settings, classes, i)) for i in range(BATCHES)]


def measure(job: Job, name: str) -> Measuring:
    """Measures the steps of one side: waited for, and one after another."""
    trainer, batches = load(job, name)
    calls = [trainer.step(batch) for batch in batches]
    _, first = timed(calls[0])
    yield
    steps, seconds, losses = job.scale.train_steps, [], []
    for step in range(steps):
        loss, duration = timed(calls[step % BATCHES])
        losses.append(loss)
        seconds.append(duration)
    start = time.perf_counter()
    last = calls[0].begin()
    for step in range(1, steps):
        last = calls[step % BATCHES].begin()
    calls[0].wait(last)
    running = 1000 * (time.perf_counter() - start) / steps
    what = f"a step of {describe_size(job.scale.train_batch, job.scale.train_size)}"
    figures = [
        median(f"{what}, waited for", [1000 * x for x in seconds]),
        figure(f"{what}, one after another", running, "ms"),
        figure("first step", first, "s"),
    ]
    if job.device == "cuda":
        figures.append(figure("peak memory", trainer.peak_device_bytes() / 2**20, "MiB"))
    return figures, {"losses": losses}


def profile(job: Job) -> Measuring:
    """Lists the kernels of a training step, by time."""
    trainer, [batch, *_] = load(job, OURS)
    call = trainer.step(batch)
    call()
    yield
    return [], {"kernels": kernel_times(call, 3)}
