"""The training loop: steps, logs, checkpoints, evaluations, and an orderly stop."""

import contextlib
import math
import resource
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from m2f_jax.modeling.model import Model
from m2f_jax.training.data import Batches
from m2f_jax.training.running.checkpoints import Checkpoints
from m2f_jax.training.state import TrainState
from m2f_jax.training.step import Metrics, train_step

MAX_SKIPPED = 20  # steps in a row whose gradients weren't finite


@dataclass(frozen=True, kw_only=True)
class Intervals:
    """Numbers of steps between logs, checkpoints and evaluations; the last step does all three."""

    log: int = 50
    save: int = 1000
    evaluate: int = 5000


class DivergedError(ValueError):
    """Gradients weren't finite for `MAX_SKIPPED` steps in a row."""


def run(
    state: TrainState,
    data: Batches,
    key: jax.Array,
    intervals: Intervals,
    checkpoints: Checkpoints,
    report: Callable[[int, Mapping[str, float]], None],
    evaluate: Callable[[int, Model], None],
) -> TrainState:
    """Trains from the state's step to the end, or until the process is asked to stop.

    A step depends on the state, the batch and the key only, so a training run that was interrupted
    at any moment comes to the same parameters.

    Args:
        state: the state to start from; it is donated.
        data: batches from the state's step on.
        key: the key of the whole training run.
        intervals: when to log, save and evaluate.
        checkpoints: where the state is saved.
        report: called with the step and its numbers: losses, learning rate, images/s, skipped
            steps, GiB of memory.
        evaluate: called with the step and the model.

    Returns:
        The state after the last step.

    Raises:
        DivergedError: `MAX_SKIPPED` steps in a row had to be skipped.
    """
    steps, start = state.config.steps, int(state.step)
    images = data.stream.config.batch_size
    window: list[Metrics] = []
    before: Metrics | None = None
    skipped_in_a_row, last_time = 0, time.perf_counter()
    if start == steps:  # it may have been killed during the last evaluation
        evaluate(steps, state.model())
    with stop_signals() as asked_to_stop:
        for step in range(start + 1, steps + 1):
            state, metrics = train_step(state, state.partitioner.put_batch(next(data)), key)
            window.append(metrics)
            if before is not None:  # the step before, so that the host doesn't wait for this one
                skipped_in_a_row = 0 if before.finite else skipped_in_a_row + 1
            before = metrics
            if skipped_in_a_row >= MAX_SKIPPED:
                raise DivergedError(
                    f"the gradients of {MAX_SKIPPED} steps up to step {step - 1} weren't finite; "
                    "lower the learning rate, or train in float32. The last checkpoint is from "
                    f"step {checkpoints.latest or 0}"
                )
            last = step == steps or asked_to_stop(step)
            if step % intervals.log == 0 or last:
                numbers = summary(window, state.config.loss.weights)
                now = time.perf_counter()
                numbers["images/s"] = images * len(window) / (now - last_time)
                numbers["skipped"] = int(state.skipped)
                numbers["memory GiB"] = memory_in_use() / 2**30
                report(step, numbers)
                window.clear()
            if step % intervals.save == 0 or last:
                checkpoints.save(state, data.get_state())
            if step % intervals.evaluate == 0 or step == steps:
                evaluate(step, state.model())
            if not window:
                last_time = time.perf_counter()
            if last:
                break
    return state


def summary(window: Sequence[Metrics], terms: Iterable[str]) -> dict[str, float]:
    """Returns means over the finite steps of a window, and the last learning rate.

    Each of the loss' terms is the last prediction's, unweighted.
    """
    host: Sequence[Metrics] = jax.device_get(window)
    finite = [metrics for metrics in host if metrics.finite]

    def mean(values: list[Any]) -> float:
        return float(np.mean(values)) if values else math.nan

    return {
        "loss": mean([metrics.loss for metrics in finite]),
        **{f"{name} loss": mean([metrics.terms[name][-1] for metrics in finite]) for name in terms},
        "gradient norm": mean([metrics.gradient_norm for metrics in finite]),
        "learning rate": float(host[-1].learning_rate),
    }


def memory_in_use() -> int:
    """Returns the first device's peak memory in bytes, or the process's if it reports none."""
    statistics = jax.local_devices()[0].memory_stats() or {}
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return statistics.get("peak_bytes_in_use", process)


@contextlib.contextmanager
def stop_signals() -> Iterator[Callable[[int], bool]]:
    """Turns SIGTERM and Ctrl-C into requests to stop, within the context.

    Yields a function that takes the number of the step and returns whether to stop after it. With
    several processes, SIGTERM to one stops all after the same step, which JAX's coordination
    service chooses.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    received: list[int] = []
    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.getsignal(number) for number in handled}
    for number in handled:
        signal.signal(number, lambda number, _: received.append(number))
    try:
        yield lambda _: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
