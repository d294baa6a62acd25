"""Programs that were kept give the same results untraced, and nothing else is taken for them."""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import m2f_jax
from m2f_jax.inference.programs import kept
from m2f_jax.inference.programs.kept import KeptProgram
from m2f_jax.structures import Predictions

X = np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4)
DEVICE = jax.sharding.SingleDeviceSharding(jax.devices()[0])


class Traced:
    """A function that counts how often it is traced."""

    def __init__(self):
        self.count = 0

    def __call__(self, weights, x):
        self.count += 1
        return Predictions(jnp.tanh(x) * weights["scale"], x.sum(axis=0))


def call(folder, x=X, *, about="", scale=2):
    """The result of a process's first call, and how often the function was traced for it."""
    function = Traced()
    program = KeptProgram(jax.jit(function), folder, "double", about, DEVICE)
    weights = {"scale": np.float32(scale)}
    result, again = program(weights, x), program(weights, x)
    jax.tree.map(np.testing.assert_array_equal, result, again)
    return result, function.count


def test_a_kept_program_is_not_traced_again(tmp_path):
    folder = tmp_path / "programs"
    first, traced = call(folder)
    assert traced == 1
    [file] = folder.iterdir()
    assert file.name.startswith("double-")
    second, traced = call(folder)
    assert traced == 0
    expected = jax.jit(Traced())({"scale": np.float32(2)}, X)
    for result in (first, second):
        assert isinstance(result, Predictions)
        jax.tree.map(np.testing.assert_array_equal, result, expected)
    third, traced = call(folder, -X, scale=3)  # values are no part of a program
    assert traced == 0
    np.testing.assert_array_equal(third.class_logits, -1.5 * first.class_logits)


@pytest.mark.parametrize("left", [np.s_[:-1], np.s_[:200], np.s_[:0], np.s_[32:], np.s_[:]])
@pytest.mark.parametrize("flipped", [0, 40])
def test_damaged_files_are_replaced(tmp_path, left, flipped):
    expected, _ = call(tmp_path)
    [file] = tmp_path.iterdir()
    content = bytearray(file.read_bytes())
    content[flipped] ^= 1
    file.write_bytes(content[left])
    result, traced = call(tmp_path)
    assert traced == 1
    jax.tree.map(np.testing.assert_array_equal, result, expected)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    assert call(tmp_path)[1] == 0


def test_a_program_under_another_ones_name_is_not_taken(tmp_path):
    call(tmp_path, about="one")
    [one] = tmp_path.iterdir()
    call(tmp_path, about="other")
    [other] = set(tmp_path.iterdir()) - {one}
    other.write_bytes(one.read_bytes())
    assert call(tmp_path, about="other")[1] == 1
    assert call(tmp_path, about="one")[1] == 0


def test_all_that_a_program_depends_on_is_in_its_key(tmp_path, monkeypatch):
    call(tmp_path)
    assert call(tmp_path, about="another model")[1] == 1
    assert call(tmp_path, X[:2])[1] == 1
    assert call(tmp_path, X.astype(np.int32))[1] == 1
    with jax.default_matmul_precision("highest"):
        assert call(tmp_path)[1] == 1
    with jax.numpy_dtype_promotion("strict"):
        assert call(tmp_path)[1] == 1
    monkeypatch.setattr(kept, "software", lambda: "another version")
    assert call(tmp_path)[1] == 1
    assert len(list(tmp_path.iterdir())) == 7
    monkeypatch.undo()
    assert call(tmp_path)[1] == 0


def test_any_change_of_the_source_is_another_software(tmp_path, monkeypatch):
    assert Path(m2f_jax.__file__).parent == kept.PACKAGE
    (tmp_path / "ops").mkdir()
    source = tmp_path / "ops" / "resize.py"
    source.write_text("x = 1\n")
    monkeypatch.setattr(kept, "PACKAGE", tmp_path)
    found = [kept.software.__wrapped__()]
    for text in ("x = 2\n", "x = 1\n"):
        source.write_text(text)
        found.append(kept.software.__wrapped__())
    source.rename(tmp_path / "ops" / "sampling.py")
    found.append(kept.software.__wrapped__())
    assert found[0] == found[2]
    assert len(set(found)) == 3


def test_where_nothing_can_be_kept_it_is_computed_all_the_same(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    result, traced = call(tmp_path / "file" / "programs")
    assert traced == 1
    np.testing.assert_array_equal(result.mask_logits, X.sum(axis=0))
    assert "can't be kept for the next run" in caplog.text


def test_programs_that_no_run_reads_are_removed(tmp_path):
    call(tmp_path, about="of an earlier version")
    [old] = tmp_path.iterdir()
    call(tmp_path, about="read every day")
    [used] = set(tmp_path.iterdir()) - {old}
    other = tmp_path / "notes-of-mine"
    other.write_text("")
    for path in (old, used, other):
        os.utime(path, (0, 0))
    assert call(tmp_path, about="read every day")[1] == 0
    assert old.exists()  # since none was written
    call(tmp_path, about="of this version")
    assert not old.exists()
    assert used.exists()
    assert other.exists()


def test_programs_are_compiled_ahead_of_their_arguments(tmp_path):
    function = Traced()
    program = KeptProgram(jax.jit(function), tmp_path, "double", "", DEVICE)
    shapes = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), ({"scale": np.float32(2)}, X)
    )
    returned = program.ahead(*shapes)
    assert returned == Predictions(
        jax.ShapeDtypeStruct((3, 4), np.float32, sharding=DEVICE),
        jax.ShapeDtypeStruct((4,), np.float32, sharding=DEVICE),
    )
    result = program({"scale": np.float32(2)}, X)
    assert function.count == 1
    assert jax.tree.map(np.shape, result) == Predictions((3, 4), (4,))
