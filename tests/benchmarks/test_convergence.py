"""Training to the end beside transformers."""

import json

import convergence
import pytest


@pytest.mark.torch
@pytest.mark.slow
@pytest.mark.usefixtures("in_this_process", "micro_streets")
def test_convergence(tmp_path, capsys):
    data, out, report = (tmp_path / name for name in ("streets", "out", "report.json"))
    arguments = ["--data", data, "--out", out, "--json", report, "--images", 3, 2, "--steps", 4]
    arguments += ["--batch", 1, "--size", 64, 128, "--device", "cpu", "--seeds", 5]
    convergence.main([str(x) for x in arguments])
    ours, theirs = rows = json.loads(report.read_text())["rows"]
    assert [(row["side"], row["seed"]) for row in rows] == [("m2f-jax", 5), ("transformers", 5)]
    assert ours["first loss"] == pytest.approx(theirs["first loss"], rel=0.1)  # other points
    assert ours["first loss"] != theirs["first loss"]
    for row in rows:
        assert 0 <= row["PQ"] <= 100
        assert 0 <= row["mIoU"] <= 100
        assert min(row["last loss"], row["step, s"], row["peak memory, MiB"]) > 0
    trained = {path: path.stat().st_mtime_ns for path in out.rglob("run.json")}
    assert len(trained) == 2
    capsys.readouterr()
    convergence.main([str(x) for x in arguments])
    assert {path: path.stat().st_mtime_ns for path in trained} == trained
    assert "means" in capsys.readouterr().out


def test_convergence_refuses():
    with pytest.raises(SystemExit, match="--steps must be 3 or more, not 2"):
        convergence.main(["--data", "streets", "--steps", "2"])
