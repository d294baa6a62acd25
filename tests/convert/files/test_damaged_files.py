"""Damaged files, and files of other kinds."""

import json
import pickle

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from m2f_jax.convert.files.formats import open_tensors

from tests.convert.files.conftest import FLOAT, NUMBERS, TWELVE, save_shards, save_zip, view


def save_each(folder):
    safetensors.numpy.save_file(NUMBERS, folder / "model.safetensors")
    (folder / "model_final.pkl").write_bytes(pickle.dumps({"model": NUMBERS}, 4))
    save_zip(folder / "model_final.pth", {"a": view("0", FLOAT, 12, 0, (12,), (1,))}, {"0": TWELVE})
    index, weight_map = save_shards(folder)
    index.write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("part", [0, 1, 5, 0.3, 0.6, 0.99])
@pytest.mark.parametrize(
    "name",
    ["model.safetensors", "model_final.pkl", "model_final.pth", "model.safetensors.index.json"],
)
def test_truncated_files(tmp_path, name, part):
    save_each(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    path.write_bytes(whole[: part if part >= 1 else int(part * len(whole))])
    with pytest.raises(ValueError, match=rf"{name} .*download it again"):
        open_tensors(path)


@pytest.mark.parametrize("name", ["model.safetensors", "model_final.pkl", "model_final.pth"])
def test_flipped_bytes_raise_nothing_but_value_errors(tmp_path, name):
    save_each(tmp_path)
    path = tmp_path / name
    whole = path.read_bytes()
    rng = np.random.default_rng(1)
    for place in rng.integers(len(whole), size=200):
        path.write_bytes(whole[:place] + rng.bytes(1) + whole[place + 1 :])
        try:
            for tensor in open_tensors(path).values():
                tensor.read()
        except ValueError as error:
            assert name in str(error)  # noqa: PT017, no error is right too: data may be flipped


def test_files_cut_short_after_they_were_opened(tmp_path):
    save_each(tmp_path)
    for name in ("model.safetensors", "model_final.pth"):
        path = tmp_path / name
        *_, last = open_tensors(path).values()
        path.write_bytes(path.read_bytes()[:60])
        with pytest.raises(ValueError, match=f"{name} is a .* that is incomplete or damaged"):
            last.read()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "git lfs pull"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "is a web page"),
        (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is a web page"),
        (b'{"error": "Repository not found"}', "has no weight_map"),
        (b"[1, 2]", "unlike any checkpoint"),
        (b"\x89HDF\r\n\x1a\n", "unlike any checkpoint"),
        (b"cos\nsystem\n(S'true'\ntR.", "unlike any checkpoint"),
        (b"", "is empty"),
        (b"\0" * 64, "unlike any checkpoint"),
        (pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2), "PyTorch wrote before"),
        (pickle.dumps([1, 2]), "holds a list, not a dict of tensors"),
        (pickle.dumps({1: np.ones(2)}), "by something other than strings"),
        (pickle.dumps({"epoch": 3}), "'epoch', which is int and no tensor"),
    ],
)
@pytest.mark.parametrize("suffix", [".safetensors", ".pkl", ".pth"])
def test_other_files_under_the_name_of_a_checkpoint(tmp_path, content, message, suffix):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"model\{suffix}.*{message}"):
        open_tensors(path)


def test_missing_files_and_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.pkl does not exist; give the path"):
        open_tensors(tmp_path / "model.pkl")
    with pytest.raises(ValueError, match="is a folder; give the checkpoint file in it"):
        open_tensors(tmp_path)
