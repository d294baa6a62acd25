"""Which results of an earlier run are taken, kept or refused."""

import os

import pytest

from tests.cli.predicting.conftest import OTHERS, files, picture, read, reds


def test_results_of_another_folder_are_not_taken_for_these(run, tmp_path):
    for day, red in (("monday", 200), ("tuesday", 220)):
        picture(tmp_path / day / "p.png", red)
    out = tmp_path / "o"
    assert run(tmp_path / "monday", out=out) == 0
    assert run(tmp_path / "tuesday", out=out) == 1
    [line] = run.lines
    assert str(tmp_path / "monday" / "p.png") in line
    assert f"{tmp_path / 'tuesday' / 'p.png'} is another image" in line
    assert reds(out) == {"p": 200}
    assert run(tmp_path / "tuesday", "--overwrite", out=out) == 0
    assert reds(out) == {"p": 220}


def test_a_folder_that_has_moved_is_known_by_its_contents(run, tmp_path):
    picture(tmp_path / "before" / "sub" / "p.png")
    assert run(tmp_path / "before", out=tmp_path / "o") == 0
    (tmp_path / "before").rename(tmp_path / "after")
    assert run(tmp_path / "after", out=tmp_path / "o") == 0
    assert "1 of 1 images are done already" in run.text


def test_a_picture_is_known_by_its_content(run, tmp_path):
    changed, same = picture(tmp_path / "pic" / "p.png"), picture(tmp_path / "pic" / "q.png", 250)
    out, times = tmp_path / "o", os.stat(changed)
    assert run(tmp_path / "pic", out=out) == 0
    kept = (out / "results" / "q.json").stat().st_mtime_ns
    picture(changed, 220)
    assert changed.stat().st_size == times.st_size
    os.utime(changed, ns=(times.st_atime_ns, times.st_mtime_ns))
    os.utime(same)
    assert run(tmp_path / "pic", out=out) == 0
    assert f"{changed} has changed, and is done anew" in run.lines
    assert "1 of 2 images are done already" in run.lines
    assert reds(out) == {"p": 220, "q": 250}
    assert (out / "results" / "q.json").stat().st_mtime_ns == kept


def test_results_of_a_former_content_go_where_the_new_one_is_damaged(run, tmp_path):
    path, out = picture(tmp_path / "pic" / "p.png"), tmp_path / "o"
    picture(tmp_path / "pic" / "q.png")
    assert run(tmp_path / "pic", "--task", "semantic", out=out) == 0
    path.write_bytes(b"no image")
    assert run(tmp_path / "pic", "--task", "semantic", out=out) == 1
    assert [x["file_name"] for x in read(out / "images.json")] == ["q.png"]
    assert not [name for name in files(out) if "/p." in name]


def test_results_of_an_image_that_cannot_be_read_now_are_kept(run, tmp_path):
    path, out = picture(tmp_path / "pic" / "p.png"), tmp_path / "o"
    picture(tmp_path / "pic" / "q.png", 210)
    assert run(tmp_path / "pic", out=out) == 0
    path.unlink()
    path.symlink_to("nowhere.png")
    assert run(tmp_path / "pic", out=out) == 1
    assert [line for line in run.lines if line.startswith("m2f: ") and str(path) in line]
    assert reds(out) == {"p": 200, "q": 210}


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({"weights": "other"}, [], "other weights"),
        (
            {"labels": OTHERS},
            [],
            "other labels",
        ),
        ({"processor": "other"}, [], "other processor"),
        ({"dtype": "bfloat16"}, [], "dtype float32 there, bfloat16 now"),
        ({}, ["--task", "semantic"], "task instance there, semantic now"),
        ({}, ["--threshold", "0.25"], "threshold 0.5 there, 0.25 now"),
        ({}, ["--top-k", "7"], "top_k 100 there, 7 now"),
        ({}, ["--native"], "native False there, True now"),
    ],
)
def test_another_model_or_setting_is_refused(model, options, message, run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, out=out) == 0
    before = {name: (out / name).read_bytes() for name in files(out)}
    run.model = model
    assert run(path, *options, out=out) == 1
    [line] = run.lines
    assert message in line
    assert "--overwrite" in line
    assert {name: (out / name).read_bytes() for name in files(out)} == before
    assert run(path, *options, "--overwrite", out=out) == 0


def test_a_processor_without_bfloat16_is_told_of(run, tmp_path, monkeypatch):
    monkeypatch.setattr("m2f_jax.default_dtype.CPU_INFO", tmp_path / "cpuinfo")
    (tmp_path / "cpuinfo").write_text("flags\t: avx2\n")
    path = picture(tmp_path / "p.png")
    assert run(path, out=tmp_path / "o") == 0
    assert "bfloat16" not in run.text
    run.model = {"dtype": "bfloat16"}
    assert run(path, out=tmp_path / "o2") == 0
    assert "no instructions for bfloat16" in " ".join(run.text.split())


def test_the_same_model_elsewhere_is_the_same(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, "--model", "here", out=out) == 0
    assert run(path, "--model", "there", out=out) == 0
    assert "1 of 1 images are done already" in run.text


def test_all_that_results_holds_is_listed(run, tmp_path):
    out = tmp_path / "o"
    for name, red in (("first/a.png", 200), ("second/b.png", 210)):
        assert run(picture(tmp_path / name, red).parent, out=out) == 0
    assert reds(out) == {"a": 200, "b": 210}
    assert "predictions.json also lists what earlier runs left, 1 in number" in run.text
    images = [{"file_name": f"{x}.png", "height": 4, "id": x, "width": 6} for x in "ab"]
    assert read(out / "images.json") == images


def test_an_earlier_version_is_refused(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    (out / "results").mkdir(parents=True)
    (out / "run.json").write_text('{"model": "streets", "threshold": 0.5}')
    (out / "results" / "old.json").write_text("[]")
    assert run(path, out=out) == 1
    assert f"{out} holds results of another version" in run.text
    assert run(path, "--overwrite", out=out) == 0
    assert reds(out) == {"p": 200}


@pytest.mark.parametrize("text", ["[]", "{", '{"image": {}, "annotations": []}', '{"image": 3}'])
def test_a_file_of_others_among_the_results_is_named(text, run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, out=out) == 0
    (out / "results" / "mine.json").write_text(text)
    assert run(path, out=out) == 1
    [line] = run.lines
    assert str(out / "results" / "mine.json") in line


def test_programs_are_compiled_ahead_where_an_image_is_certain_to_be_segmented(run, tmp_path):
    path, other = picture(tmp_path / "a.png"), picture(tmp_path / "b.png")
    out = tmp_path / "out"
    for pictures, options, first in (
        ([path, other], (), path),
        ([path, other], (), None),
        ([other], ("--overwrite",), other),
    ):
        assert run(*pictures, *options, out=out) == 0
        assert run.first == first
