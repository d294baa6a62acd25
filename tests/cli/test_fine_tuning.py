"""`m2f train` without a recipe: any trained model learns the classes of a folder."""

import dataclasses
import json
import logging

import jax.numpy as jnp
import numpy as np
import pytest

import m2f_jax
from m2f_jax.cli import main
from m2f_jax.cli.commands import train as command
from m2f_jax.cli.training.settings import Settings
from m2f_jax.labels import numbered
from m2f_jax.modeling.parameters import parameters
from m2f_jax.pretrained import start_from
from m2f_jax.training import initialize
from tests.cli.test_train_refusals import write_split
from tests.conftest import GOLDEN, MICRO

HEAD = ["decoder.heads.class_head.bias", "decoder.heads.class_head.kernel"]
SOURCES = {
    "ours": None,
    "authors": GOLDEN / "tiny_w4_aligned" / "model_final.pkl",
    "maskformer, huggingface": GOLDEN / "maskformer_swin" / "hf",
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model of ours that knows three classes."""
    folder = tmp_path_factory.mktemp("trained")
    initialize(dataclasses.replace(MICRO, labels=numbered(3), task="panoptic")).save_pretrained(
        folder
    )
    return folder


@pytest.fixture
def data(tmp_path):
    for split in ("train", "val"):
        write_split(tmp_path / "data" / split)
    return tmp_path / "data"


@pytest.fixture
def fine_tune(data, monkeypatch, capsys):
    """Runs the command but for its steps; returns its exit code, its words and the first state."""
    states = []

    def no_steps(state, _stream, _key, intervals, *_):
        assert intervals.evaluate == 500
        states.append(state)
        return dataclasses.replace(state, step=jnp.int32(state.config.steps))

    monkeypatch.setattr(command, "run_loop", no_steps)

    def run(*options):
        out = data.parent / "out"
        arguments = ["--data", data, "--out", out, "--threads", "1", *options]
        code = main(["train", *map(str, arguments)])
        return code, capsys.readouterr().err, states[-1] if states else None

    return run


@pytest.mark.parametrize("kind", SOURCES)
def test_a_folder_and_a_model_are_enough(fine_tune, data, trained, kind):
    source = SOURCES[kind] or trained
    code, said, state = fine_tune("--from", source, "--task", "instance", "--dtype", "float32")
    assert code == 0, said
    assert f"these start afresh, all else is kept: {', '.join(HEAD)}" in said
    config = state.config.model
    assert [label.name for label in config.labels] == ["cat", "dog"]
    assert config.task == "instance"
    before, after = (parameters(x) for x in (m2f_jax.load(source).model, state.model()))
    assert set(before) == set(after)
    for name in set(before) - set(HEAD):
        np.testing.assert_array_equal(before[name][...], after[name][...], err_msg=name)
    settings = Settings.load(data.parent / "out" / "train.json")
    assert (settings.recipe, settings.from_) == (None, str(source))


def test_the_task_is_the_models_own_unless_it_is_named(fine_tune, trained):
    code, said, _ = fine_tune("--from", trained)
    assert code == 1
    assert "--task instance" in said.replace("\n", " ")


def test_what_is_missing_is_named(fine_tune, tmp_path):
    code, said, _ = fine_tune()
    assert code == 1
    assert "name a RECIPE" in said
    (tmp_path / "swin").mkdir()
    (tmp_path / "swin" / "config.json").write_text(json.dumps({"model_type": "swin"}))
    code, said, _ = fine_tune("--from", tmp_path / "swin")
    assert code == 1
    assert "without a RECIPE, --from has to be a trained model" in said


@pytest.mark.parametrize(("count", "fresh"), [(3, []), (7, ["queries", "query_positions"])])
def test_other_numbers_of_queries(trained, caplog, count, fresh):
    """Of more queries than are wanted, the first ones are kept, and it is said."""
    before = parameters(m2f_jax.load(trained).model)
    config = dataclasses.replace(
        m2f_jax.load(trained).config,
        decoder=dataclasses.replace(MICRO.decoder, num_queries=count),
    )
    with caplog.at_level(logging.WARNING, "m2f_jax"):
        model, names = start_from(trained, config, 0, "float32")
    assert sorted(names) == [f"decoder.{name}" for name in fresh]
    assert ("has 5 queries, of which the first 3 are kept" in caplog.text) == (count == 3)
    after = parameters(model)
    for name, value in after.items():
        if name not in names:
            kept = before[name][: value.shape[0]]
            np.testing.assert_array_equal(kept, value[...], err_msg=name)


def test_layers_are_not_left_out():
    """Each parameter of a shallower model has the name and shape of one of the trained model's."""
    source = SOURCES["authors"]
    config = m2f_jax.load(source).config
    decoder = dataclasses.replace(config.decoder, num_layers=config.decoder.num_layers - 1)
    with pytest.raises(
        ValueError, match=r"it has decoder\.layers\..*choose the recipe of the same"
    ):
        start_from(source, dataclasses.replace(config, decoder=decoder), 0, "float32")
