"""A term of the loss from outside the package, as docs/train.md adds one, trains and is logged."""

import dataclasses
import functools
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.plain import from_plain
from m2f_jax.structures import Predictions, Targets
from m2f_jax.training import (
    TERMS,
    ExtraTerm,
    LossConfig,
    PairTerm,
    TrainConfig,
    TrainState,
    loss,
)
from m2f_jax.training.initialize import initialize
from m2f_jax.training.running import loop
from m2f_jax.training.running.checkpoints import Checkpoints
from m2f_jax.training.running.logs import LOG_FILE, Log
from tests.conftest import MICRO, ROOT, compile_and_call
from tests.training.running.test_loop import Endless
from tests.training.test_step import make_config


@pytest.fixture
def documented(monkeypatch):
    """What the page's snippet defines; what it adds to the table goes again."""
    for name in ("brier", "z"):
        monkeypatch.setitem(TERMS, name, None)
    [section] = re.findall(
        r"## Adding a loss\n(.*?)\n## ", (ROOT / "docs/train.md").read_text(), re.S
    )
    [snippet] = re.findall(r"```python\n(.*?)```", section, re.S)
    names = {}
    exec(compile(snippet, "docs/train.md", "exec"), names)
    return names


def test_a_term_of_ones_own(documented, toys, tmp_path):
    loss = dataclasses.replace(documented["config"].loss, num_points=32)
    model = initialize(dataclasses.replace(MICRO, **toys))
    config = make_config(model.config, loss=loss, steps=2)
    log, checkpoints = Log(tmp_path, 0), Checkpoints(tmp_path / "checkpoints")
    every = loop.Intervals(log=1, save=10, evaluate=10)
    state, key = TrainState.of(model, config), jax.random.key(0)
    loop.run(state, Endless(), key, every, checkpoints, log.add, lambda *_: None)
    log.close()
    checkpoints.close()
    first, second = map(json.loads, (tmp_path / LOG_FILE).read_text().splitlines())
    names = ["class", "mask", "dice", "brier", "z"]
    assert [name for name in first if name.endswith(" loss")] == [f"{name} loss" for name in names]
    for entry in (first, second):
        assert 0 < entry["brier loss"] < entry["mask loss"]
        assert entry["z loss"] > 0


def test_gradients_pass_through_the_whole_map_of_a_pair(monkeypatch):
    """The cross-entropy again, written in terms of the maps."""

    def of_maps(pair):
        return (jnp.logaddexp(pair.logit_map, 0.0) - pair.logit_map * pair.mask).mean()

    monkeypatch.setitem(TERMS, "maps", PairTerm(of_maps))
    config = LossConfig(num_points=None, extra_terms=(ExtraTerm(name="maps", weight=0.0),))
    rng = np.random.default_rng(0)
    shapes = (2, 4, 3), (2, 4, 8, 8)
    predictions = [Predictions(*(rng.normal(size=x).astype(np.float32) for x in shapes))]
    masks, valid = rng.random((2, 3, 32, 32)) < 0.4, np.array([[True] * 3, [True, False, False]])
    targets = Targets(rng.integers(2, size=(2, 3)), masks, valid)

    def term(predictions, weights):
        terms = loss(predictions, targets, config, key=jax.random.key(0)).terms
        return weights[0] * terms["mask"].sum() + weights[1] * terms["maps"].sum()

    gradient = functools.partial(compile_and_call, jax.value_and_grad(term), predictions)
    ours, again = gradient(np.array([1.0, 0.0])), gradient(np.array([0.0, 1.0]))
    assert ours[0] > 0
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-8), ours, again)


def test_configs_in_json(documented):
    config = documented["config"]
    assert config.loss.weights == {"class": 2, "mask": 5, "dice": 5, "brier": 20, "z": 0.001}
    values = json.loads(json.dumps(dataclasses.asdict(config)))
    assert values["loss"]["extra_terms"][0] == {"name": "brier", "weight": 20}
    assert from_plain(TrainConfig, values, "") == config
    del values["loss"]["extra_terms"]  # written before there were any
    assert from_plain(TrainConfig, values, "").loss == LossConfig()


def test_a_term_that_is_not_there_is_named(micro):
    loss = LossConfig(extra_terms=(ExtraTerm(name="edges", weight=1.0),))
    with pytest.raises(ValueError, match="no loss term edges, but class, mask, dice"):
        TrainState.of(micro, make_config(micro.config, loss=loss))
    with pytest.raises(ValueError, match="each has its own name"):
        LossConfig(extra_terms=(ExtraTerm(name="mask", weight=1.0),))
    with pytest.raises(ValueError, match="ExtraTerm edges: weight must be 0 or more"):
        ExtraTerm(name="edges", weight=-1.0)
