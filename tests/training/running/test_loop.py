"""The loop: what stops a training, and what is made up for when it goes on."""

import dataclasses
import types

import jax
import numpy as np
import pytest

from m2f_jax.training.data import Batches
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.running import loop
from m2f_jax.training.running.checkpoints import Checkpoints
from m2f_jax.training.state import TrainState
from m2f_jax.training.step import Metrics
from tests.training.test_step import make_batch, make_config


class Endless(Batches):
    def __init__(self):
        self.stream = types.SimpleNamespace(config=types.SimpleNamespace(batch_size=2))

    def __next__(self):
        return make_batch(2)

    def get_state(self):
        return b"{}"


def fake_step(finite):
    def step(state, batch, key):
        del batch, key
        values = dict.fromkeys(Metrics._fields, np.ones(1, np.float32))
        metrics = Metrics(**values)._replace(
            loss=np.float32(1),
            terms=dict.fromkeys(("class", "mask", "dice"), np.ones(1, np.float32)),
            learning_rate=np.float32(1),
            finite=np.bool_(finite),
        )
        return dataclasses.replace(state, step=state.step + 1), metrics

    return step


@pytest.fixture
def run(micro, tmp_path):
    def run(config, **changes):
        state = TrainState.of(micro, config, Partitioner.over(jax.devices()[:1]))
        state = dataclasses.replace(state, **changes)
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        evaluated = []
        every = loop.Intervals(log=1, save=1000, evaluate=1000)
        try:
            loop.run(
                *(state, Endless(), jax.random.key(0), every, checkpoints),
                lambda *_: None,
                lambda step, _: evaluated.append(step),
            )
        finally:
            checkpoints.close()
        return evaluated

    return run


def test_many_skipped_steps_in_a_row_stop_it(micro, run, monkeypatch):
    monkeypatch.setattr(loop, "train_step", fake_step(finite=False))
    with pytest.raises(loop.DivergedError, match="lower the learning rate"):
        run(make_config(micro.config, steps=100))
    monkeypatch.setattr(loop, "train_step", fake_step(finite=True))
    assert run(make_config(micro.config, steps=30)) == [30]


def test_killed_in_the_last_evaluation_it_makes_up_for_it(micro, run):
    config = make_config(micro.config, steps=3)
    assert run(config, step=jax.numpy.int32(3)) == [3]
