"""Training steps beside transformers'."""

import json

import pytest
import training


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process")
def test_training(micro, tmp_path, capsys):
    path = tmp_path / "report.json"
    arguments = ["--preset", micro, "--size", "32", "64", "--steps", "3", "--device", "cpu"]
    training.main([*arguments, "--json", str(path)])
    report = json.loads(path.read_text())
    agreement = report["agreement"]
    assert agreement["same points, step 1"] < training.TOLERANCE
    assert agreement["same points, largest"] < 1e-3
    assert 1e-6 < agreement["own points, step 1"] < 0.05
    table = capsys.readouterr().out
    for row in report["rows"]:
        assert f"{row['name']}, {row['unit']}" in table
        ours, theirs = row["values"]["m2f-jax"], row["values"]["transformers"]
        assert min(ours, theirs) > 0
        assert row["ratios"]["transformers"] == pytest.approx(ours / theirs)
    assert {name: len(runs) for name, runs in report["runs"].items()} == {
        "m2f-jax": 1,
        "transformers": 1,
        "transformers, our points": 1,
    }
    for [run] in report["runs"].values():
        assert len(run["losses"]) == len(run["seconds"]) == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--size", "64", "33"], r"--size: multiples of 32, not \(64, 33\)"),
        (["--repeats", "0"], "--repeats must be 1 or more, not 0"),
        (["--steps", "2"], "--steps must be 3 or more, not 2"),
    ],
)
def test_training_refuses(arguments, message):
    with pytest.raises(SystemExit, match=message):
        training.main(arguments)
