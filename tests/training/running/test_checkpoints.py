"""Checkpoints: what is resumed from, what is refused by name, and what a full disk brings about."""

import dataclasses
import gc
import json
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m2f_jax.training.config import TrainConfig
from m2f_jax.training.partitioning import Partitioner
from m2f_jax.training.running.checkpoints import Checkpoints, check_space
from m2f_jax.training.state import TrainState

PLACE = b'{"step": 2}'


@pytest.fixture(scope="module")
def state(micro):
    """A state of few parameters, one of them large enough for a file of its own."""
    one = TrainState.of(micro, TrainConfig(model=micro.config), Partitioner.over(jax.devices()[:1]))
    numbers = jnp.asarray(np.random.default_rng(0).normal(size=100_000), jnp.float32)
    return dataclasses.replace(
        one,
        step=jnp.int32(2),
        parameters={"norm": {"scale": jnp.ones(3)}, "head": numbers},
        optimizer=({"count": jnp.int32(2)}, {"mu": {"head": jnp.zeros(2)}}),
    )


@pytest.fixture(scope="module")
def written(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoints") / "checkpoints"
    save(folder, dataclasses.replace(state, step=jnp.int32(1)), state)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    """The checkpoints of steps 1 and 2, to be damaged."""
    return shutil.copytree(written, tmp_path / "checkpoints")


def save(folder, *states):
    checkpoints = Checkpoints(folder)
    for one in states:
        checkpoints.save(one, json.dumps({"step": int(one.step)}).encode())
    checkpoints.close()


def restore(folder, state):
    checkpoints = Checkpoints(folder)
    try:
        return checkpoints.restore(state)
    finally:
        checkpoints.close()


def test_the_last_state_and_its_place_come_back(folder, state):
    restored, place = restore(folder, state)
    assert place == PLACE
    for ours, theirs in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_without_a_checkpoint_there_is_nothing_to_restore(tmp_path, state):
    with pytest.raises(FileNotFoundError, match="holds no checkpoint"):
        restore(tmp_path, state)


def test_foreign_files_are_let_be(folder, state):
    (folder / "notes.txt").write_text("mine")
    (folder / "7").write_text("a file")
    for name in ("old", "-1", "2 (copy)", "007"):
        (folder / name).mkdir()
    assert int(restore(folder, state)[0].step) == 2
    assert (folder / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [None, "a.txt"])
def test_a_foreign_folder_that_looks_like_a_checkpoint_is_named(folder, state, content):
    (folder / "7").mkdir()
    if content:
        (folder / "7" / content).write_text("")
    with pytest.raises(ValueError, match=r"checkpoints/7 is damaged, or of another model; remove"):
        restore(folder, state)


def test_a_checkpoint_under_another_name_is_named(folder, state):
    (folder / "2").rename(folder / "9")
    with pytest.raises(ValueError, match=r"checkpoints/9 is that of step 2"):
        restore(folder, state)


def test_another_model_is_refused(folder, state):
    other = dataclasses.replace(state, parameters={"head": jnp.ones(3)})
    with pytest.raises(ValueError, match=r"checkpoints/2 is damaged, or of another model"):
        restore(folder, other)


@pytest.mark.parametrize(
    "pattern", ["_CHECKPOINT_METADATA", "state/_METADATA", "state/manifest.ocdbt", "state/d/*"]
)
@pytest.mark.filterwarnings(r"ignore:coroutine 'Store\.:RuntimeWarning")  # as the module does
@pytest.mark.parametrize("damage", ["gone", "empty", "half", "flipped"])
def test_damaged_files_are_refused_in_one_line(folder, state, pattern, damage, capfd):
    for path in (folder / "2").glob(pattern):
        data = bytearray(path.read_bytes())
        if damage == "gone":
            path.unlink()
            continue
        data[len(data) // 2] ^= 0x40
        path.write_bytes({"empty": b"", "half": data[: len(data) // 2], "flipped": data}[damage])
    with pytest.raises(ValueError, match=r"remove it to go on from the one before$") as caught:
        restore(folder, state)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    del caught
    gc.collect()  # tasks complain when they are collected
    assert capfd.readouterr().err == ""
    shutil.rmtree(folder / "2")
    assert int(restore(folder, state)[0].step) == 1


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"parameters": {"norm": {"scale": jnp.full(3, jnp.nan)}}}, r"parameters\.norm\.scale"),
        ({"average": {"head": jnp.array([1.0, jnp.inf])}}, r"average\.head"),
        ({"optimizer": ({"mu": jnp.array([-jnp.inf])},)}, r"optimizer\.0\.mu"),
    ],
)
def test_numbers_that_are_not_finite_are_named(tmp_path, state, change, name):
    state = dataclasses.replace(state, **change)
    save(tmp_path, state)
    with pytest.raises(ValueError, match=rf"the checkpoint {tmp_path}/2: .* numbers of {name} "):
        restore(tmp_path, state)


def test_what_cannot_be_written_is_told_in_one_line(tmp_path, state, capfd):
    save(tmp_path, dataclasses.replace(state, step=jnp.int32(1)))
    checkpoints = Checkpoints(tmp_path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, before[1]))  # bytes of any file
    try:
        checkpoints.save(state, PLACE)
        with pytest.raises(OSError, match=r"File too large; mend this, .* after step 1") as caught:
            checkpoints.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""
    restored, place = restore(tmp_path, state)
    assert (int(restored.step), place) == (1, b'{"step": 1}')


def test_too_little_room_is_told_beforehand(tmp_path, state, monkeypatch):
    usage = shutil.disk_usage(tmp_path)._replace(free=2**20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(OSError, match=r"has 1\.0 MiB left, and this training run keeps up to 1\.5"):
        check_space(tmp_path / "new", state)
