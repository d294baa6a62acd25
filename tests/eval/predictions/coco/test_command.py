"""`m2f eval coco` of files."""

import json
import math
import os
import sys

import pytest
from m2f_jax.eval.metrics.coco.tool import TOOLS

from m2f_jax.cli import main
from m2f_jax.cli.evaluating import reading
from tests.eval.predictions.coco.case import GOOD, content_of, results, save_maps, write


def test_neither_pictures_nor_their_folder_are_needed(tmp_path, capsys):
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    save_maps(tmp_path / "maps", ("0", "1.png", "2"))
    out = tmp_path / "out"
    command = ["eval", "coco", str(truth), "--out", str(out)]
    assert main([*command, "--predictions", str(found)]) == 0
    scores = json.loads((out / "results.json").read_text())["scores"]
    assert scores["AP"] == pytest.approx(100)
    semantic = ["--task", "semantic", "--predictions", str(tmp_path / "maps")]
    assert main([*command, *semantic]) == 0
    assert json.loads((out / "results.json").read_text())["scores"] == {"mIoU": 100}
    assert "miou" in (out / "report.html").read_text().lower()
    capsys.readouterr()
    assert main(command) == 1
    assert "name the folder of the images after the annotations" in capsys.readouterr().err


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tool_that_computed_is_named(tmp_path, capsys, tool):
    pytest.importorskip(tool.replace("-", "_"), reason=f"needs {tool}, of the extra coco")
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    out = tmp_path / "out"
    command = ["eval", "coco", str(truth), "--predictions", str(found), "--tool", tool]
    assert main([*command, "--out", str(out)]) == 0
    assert f"computed by {tool} " in capsys.readouterr().out
    content = json.loads((out / "results.json").read_text())
    assert content["official"]["tool"].startswith(f"{tool} ")
    assert content["scores"]["AP"] == pytest.approx(100)
    assert f"{tool} " in (out / "report.html").read_text()
    assert main([*command, "--task", "semantic"]) == 1
    assert f"--tool {tool} computes AP; --task semantic has no such tool" in capsys.readouterr().err


def test_a_tool_that_is_not_installed_is_refused_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    command = ["eval", "coco", str(truth), "--predictions", str(found)]
    assert main([*command, "--tool", "faster-coco-eval", "--out", str(tmp_path / "out")]) == 1
    assert "m2f eval needs faster_coco_eval: pip install 'm2f-jax[coco]'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()


FLAT = {"segmentation": [[1, 5, 9, 5, 20, 5]]}
FILES = {  # what is otherwise in the annotations, entries of the results, and in the output
    "sound": ({}, results(1, 2, 3), "m2f: {truth}: outlines that enclose no area: 1"),
    "to be read one by one": ({}, [*results(1), GOOD | {"more": 1}], "average"),
    "broken results": ({}, [GOOD, GOOD | {"score": None}], "m2f: {found}: entry 1: score is null"),
    "results of others": ({}, results(1, 9), "m2f: {found}: entry 1: it is about image 9"),
    "broken annotations": (
        {"category_id": 7},
        [GOOD | {"score": None}],
        "m2f: {truth}: annotation 3: category_id is 7, which isn't",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files_read_by_two_processes_give_what_one_finds(tmp_path, capfd, monkeypatch, case):
    changes, entries, message = FILES[case]
    content = content_of()
    content["annotations"][2] |= FLAT | changes
    truth = write(tmp_path / "truth.json", content)
    found = write(tmp_path / "found.json", entries)
    command = ["eval", "coco", str(truth), "--predictions", str(found)]
    seen = []
    for large in (math.inf, 0):
        monkeypatch.setattr(reading, "LARGE", large)
        code, output = main(command), capfd.readouterr()
        failures = [line for line in output.err.splitlines() if str(found) in line]
        seen.append((code, output.out, failures))
    assert seen[0] == seen[1]
    assert message.format(truth=truth, found=found) in output.out + output.err


def test_a_process_that_ends_early_is_not_needed(tmp_path, capsys, monkeypatch):
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(reading, "send_annotations", os._exit)
    assert main(["eval", "coco", str(truth), "--predictions", str(found)]) == 0
    assert "AP 100.0" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_results_without_objects_are_strict_json(tmp_path, task):
    truth = write(tmp_path / "truth.json", content_of() | {"annotations": []})
    found = write(tmp_path / "found.json", [])
    if task == "semantic":
        found = save_maps(tmp_path / "maps", ("0", "1.png", "2"))
    out = tmp_path / "out"
    command = ["eval", "coco", str(truth), "--out", str(out), "--task", task]
    assert main([*command, "--predictions", str(found)]) == 0

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((out / "results.json").read_text(), parse_constant=refuse)
    assert set(content["scores"].values()) == {None}
    assert "nan" not in (out / "report.html").read_text().lower().split("<body", 1)[1]
