"""What the processes of one evaluation send each other."""

import jax
import numpy as np
import pytest
from jax._src import distributed
from jax.experimental import multihost_utils
from m2f_jax.eval.running.processes import check_same, exchange

A_DAY = 24 * 3600 * 1000  # milliseconds


def test_all_wait_for_the_slowest_before_anything_is_sent(monkeypatch):
    """A collective operation alone gives up on processes that come half a minute later."""
    calls = []

    class Client:
        def wait_at_barrier(self, name, timeout):
            calls.append(name)
            assert timeout > A_DAY

    def gather(array):
        calls.append("sent")
        return np.stack([array, array])

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(distributed.global_state, "client", Client())
    monkeypatch.setattr(multihost_utils, "process_allgather", gather)
    assert exchange(b"one") == [b"one", b"one"]
    assert exchange(b"") == [b"", b""]
    first, *sent, second = calls[:4]
    assert sent == ["sent", "sent"] == calls[4:]
    assert len({first, second, "sent"}) == 3


@pytest.mark.parametrize("others", [{}, {"boundary": False}])
def test_what_only_one_process_was_asked_for_is_a_difference(others):
    settings = {"task": "panoptic", "boundary": True}, {"task": "panoptic"} | others
    for both in (settings, settings[::-1]):
        with pytest.raises(ValueError, match="than process 0: its boundary is"):
            check_same(both)
    check_same([settings[0] | {"data digest": "1"}, settings[0] | {"data digest": "2"}])
