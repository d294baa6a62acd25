"""The dtype of a command, and what is said where it is slow."""

import numpy as np
import pytest
from PIL import Image

from m2f_jax.cli import main


@pytest.fixture
def frames(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    Image.fromarray(np.zeros((4, 6, 3), np.uint8)).save(folder / "0.png")
    return folder


@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
@pytest.mark.parametrize(
    ("command", "load"),
    [
        (["eval", "folder", "FRAMES"], "m2f_jax.cli.evaluating.model.load"),
        (["predict", "--video", "FRAMES"], "m2f_jax.pretrained.load"),
        (["train", "streets", "--data", "FRAMES", "--out", "OUT"], None),
    ],
)
def test_a_processor_without_bfloat16_is_told_of(
    command, load, dtype, frames, tmp_path, monkeypatch, capsys
):
    def stop(_, asked, **__):
        assert asked == dtype
        raise ValueError("opened")

    if load is not None:
        monkeypatch.setattr(load, stop)
    monkeypatch.setattr("m2f_jax.default_dtype.CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t: avx2\n")
    places = {"FRAMES": str(frames), "OUT": str(tmp_path / "out")}
    arguments = [places.get(x, x) for x in command]
    assert main([*arguments, "--dtype", dtype]) == 1
    text = " ".join(capsys.readouterr().err.split())
    assert (text.count("no instructions for bfloat16") == 1) is (dtype == "bfloat16")
