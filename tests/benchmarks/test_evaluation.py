"""Evaluation from files, beside the official tools."""

import pytest
from evaluation_rows import coco
from evaluation_rows.case import M2F, Data, run

from m2f_jax.cli import main


def test_coco_numbers_of_the_same_files(tmp_path, monkeypatch):
    monkeypatch.setattr(coco, "SHAPES", 20)
    case = coco.instance(Data(folder=tmp_path, images=3, official_python=None))
    plain, ours = case.ours.values()
    out = tmp_path / "ours"
    assert [*plain.command(2, out), "--out", out] == ours.command(2, out)
    assert main(list(map(str, ours.command(2, out)[len(M2F) :]))) == 0
    _, theirs = run(case.theirs["pycocotools"], 2, tmp_path / "theirs")
    assert 0 < theirs[0] < 1
    assert ours.numbers(out) == pytest.approx(theirs, abs=1e-12)
