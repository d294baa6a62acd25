"""The suite for a GPU's minutes, at toy sizes on a CPU."""

import json

import gpu
import gpu_rows
import pytest

ROWS = ("weights", "device", "forward", "windows, stage 1, shifted", "matching")


def run(out, *rows, minutes=5):
    options = ["--toy", "--device", "cpu", "--out", str(out), "--minutes", str(minutes)]
    gpu.main([*options, "--rows", *rows])


@pytest.mark.torch
@pytest.mark.slow
def test_rows_are_measured(tmp_path, capsys):
    run(tmp_path, *ROWS)
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert list(report["rows"]) == [name for name in gpu_rows.ROWS if name in ROWS]
    assert report["machine"]["sizes"] == "toy"
    for name, row in report["rows"].items():
        assert row["status"] == "measured", row
        for figure in row["figures"]:
            assert figure["value"] >= 0
            assert f"| {name} | {figure['what']} |" in table
    assert table.strip() == (tmp_path / "gpu.md").read_text().strip()
    assert any((tmp_path / "compiled").iterdir())


@pytest.mark.torch
def test_what_was_cut_off_is_said(tmp_path):
    with pytest.raises(SystemExit, match="without figures: device, matching; see"):
        run(tmp_path, "device", "matching", minutes=0.001)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["status"] for row in rows.values()} <= {"cut off", "not begun"}


def test_the_order(monkeypatch):
    names = list(gpu_rows.ROWS)
    # The same function comes before how fast it is, the training of the model in the package last.
    assert names.index("exact") < names.index("forward") < names.index("path")
    assert names.index("path") < names.index("training") < names.index("batches")
    assert names[-1] == "streets"
    starts = gpu.chosen_rows(None, "cuda")
    assert starts[0] == "weights"  # others wait for it
    assert set(starts) == set(names)
    monkeypatch.setitem(gpu_rows.ROWS, "only on a GPU", gpu_rows.Row("", None, on_cpu=False))
    assert "only on a GPU" not in gpu.chosen_rows(None, "cpu")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "1"], "--out FOLDER is missing"),
        (["--out", "x", "--minutes", "0"], "--minutes is more than 0"),
    ],
)
def test_refuses(arguments, message, capsys):
    with pytest.raises(SystemExit):
        gpu.main(arguments)
    assert message in capsys.readouterr().err


def test_unknown_rows_are_named():
    with pytest.raises(SystemExit, match="no row is called forwards; see --list"):
        gpu.chosen_rows(["forwards"], "cuda")
