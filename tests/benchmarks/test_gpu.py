"""The suite for a GPU's minutes, at toy sizes on a CPU."""

import json

import gpu
import gpu_rows
import pytest
from gpu_rows.suite.job import Job


def run(out, *rows, minutes=5):
    options = ["--toy", "--device", "cpu", "--out", str(out), "--minutes", str(minutes)]
    gpu.main([*options, "--rows", *rows])


@pytest.mark.torch
def test_the_suite(tmp_path, capsys):
    with pytest.raises(SystemExit, match="without figures: forward, best; see"):
        run(tmp_path, "device", "forward, best")  # the latter wants rows that there are none of
    table = capsys.readouterr().out
    report = json.loads((tmp_path / "gpu.json").read_text())
    assert list(report["rows"]) == ["device", "forward, best"]
    assert report["machine"]["sizes"] == "toy"
    device, failed = report["rows"].values()
    assert device["status"] == "measured", device
    for figure in device["figures"]:
        assert f"| device | {figure['what']} |" in table
    assert failed["status"] == "failed"
    assert "Traceback" in failed["log"]
    assert "| forward, best | failed |" in table
    assert table.strip() == (tmp_path / "gpu.md").read_text().strip()
    assert any((tmp_path / "compiled").iterdir())


def test_rows_measure(tmp_path, monkeypatch):
    monkeypatch.setattr("gpu_rows.suite.job.ROUND_SECONDS", 0.001)
    job = Job(toy=True, device="cpu", out=tmp_path)
    for name in (gpu_rows.WEIGHTS, "forward", "windows, stage 1, shifted", "matching"):
        row = gpu_rows.ROWS[name].start(job)
        next(row)
        with pytest.raises(StopIteration) as end:
            next(row)
        figures, _ = end.value.value
        assert figures
        assert all(figure["value"] >= 0 and figure["what"] for figure in figures)


def test_every_row_is_there():
    for row in gpu_rows.ROWS.values():
        module, function = row.measure.rsplit(".", 1)
        path = gpu.Path(gpu_rows.__file__).parent / module.replace(".", "/")
        source = path.with_suffix(".py").read_text()
        assert f"def {function}(job: Job" in source


@pytest.mark.torch
def test_what_was_cut_off_is_said(tmp_path):
    with pytest.raises(SystemExit, match="without figures: device, matching; see"):
        run(tmp_path, "device", "matching", minutes=0.001)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["status"] for row in rows.values()} <= {"cut off", "not begun"}


def test_the_order():
    names = list(gpu_rows.ROWS)
    # The same function comes before how fast it is, the training of the model in the package last.
    assert names.index("exact") < names.index("forward") < names.index("path")
    assert names.index("path") < names.index("training") < names.index("batches")
    assert names[-1] == "streets"
    starts = gpu.chosen_rows(names)
    assert starts[0] == "weights"  # others wait for it
    assert set(starts) == set(names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--minutes", "1"], "--out FOLDER is missing"),
        (["--out", "x", "--minutes", "0"], "--minutes must be above 0, not 0"),
        (["--out", "x", "--rows", "forwards"], "no row is called forwards; see --list"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(SystemExit, match=message):
        gpu.main(arguments)
