"""The pipeline of many images, with a stub in place of the model."""

import threading
from types import SimpleNamespace

from m2f_jax.inference.prefetching import Pending, run_pipeline

STUB = SimpleNamespace(
    capacity=1, submit=lambda batch, _: [Pending(lambda x=x: x.value) for x in batch]
)


def read(job):
    if job == 3:
        raise ValueError("damaged")
    return SimpleNamespace(value=10 * job, bucket=None), None


def test_outcomes_come_in_order_with_errors_among_them():
    outcomes = list(run_pipeline(STUB, None, range(6), read, lambda _job, _none, found: found))
    assert [job for job, _ in outcomes] == list(range(6))
    assert [x for _, x in outcomes if not isinstance(x, ValueError)] == [0, 10, 20, 40, 50]


def test_it_can_be_left_early_in_one_of_its_own_threads():
    """As when the garbage collector, which runs in any thread, finds it there."""
    left, closed = threading.Event(), threading.Event()
    held = []

    def read_and_leave(job):
        if job == 4:
            left.wait(10)
            held.pop().close()
            closed.set()
        return read(job)

    held.append(run_pipeline(STUB, None, range(9), read_and_leave, lambda *found: found))
    assert next(held[0])[0] == 0
    left.set()
    assert closed.wait(10)
