"""Which files are images, and what is said of the others."""

import contextlib
import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from tests.cli.predicting.conftest import picture, read, reds


def test_the_output_folder_is_not_read(run, tmp_path):
    path = picture(tmp_path / "in" / "p.png")
    out = tmp_path / "in" / "out"
    for _ in range(2):
        assert run(path.parent, out=out) == 0
        assert run(tmp_path / "in" / "**" / "*.*", out=out) == 0
        assert reds(out) == {"p": 200}
    assert run(path.parent, out=tmp_path / "in" / "other") == 0
    assert f"{out} holds the results of m2f predict, and is left out" in run.text
    assert reds(tmp_path / "in" / "other") == {"p": 200}
    assert run(path.parent, out=path.parent) == 1
    assert "choose another --out" in run.text
    assert sorted(os.listdir(path.parent)) == ["other", "out", "p.png"]


def test_a_folder_that_cannot_be_read_is_named(run, tmp_path, monkeypatch):
    picture(tmp_path / "in" / "p.png")
    closed = picture(tmp_path / "in" / "sub" / "q.png").parent
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path) == str(closed):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    assert run(tmp_path / "in", out=tmp_path / "o") == 1
    assert f"m2f: {closed} can't be searched for images (Permission denied)" in run.lines
    assert reds(tmp_path / "o") == {"p": 200}


def test_links_in_circles_end_and_those_to_nowhere_are_named(run, tmp_path):
    top = picture(tmp_path / "in" / "p.png").parent
    picture(tmp_path / "elsewhere" / "q.png", 210)
    (top / "self.png").symlink_to("self.png")
    (top / "gone.png").symlink_to("nowhere.png")
    (top / "circle").symlink_to(top)
    (top / "linked").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(top / "pipe.png")
    assert run(top, out=tmp_path / "o") == 1
    for name in ("self.png", "gone.png", "pipe.png"):
        [line] = [line for line in run.lines if str(top / name) in line]
        assert line.startswith("m2f: ")
    assert reds(tmp_path / "o") == {"p": 200, "linked/q": 210}


@pytest.mark.parametrize(
    "name", ["IMG [copy].jpg", "x[b]y.jpg", "x[/b].jpg", "[red]", "a\x1b[2J.png", "line\nbreak.png"]
)
def test_damaged_images_are_named_as_they_are(name, run, tmp_path):
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("not an image")
    picture(tmp_path / "in" / "good.png")
    assert run(tmp_path / "in" / "good.png", path, out=tmp_path / "o") == 1
    shown = str(path).replace("\x1b", r"\x1b").replace("\n", r"\n")
    [line] = [line for line in run.lines if shown in line]
    assert line.startswith("m2f: ")
    assert reds(tmp_path / "o") == {"good": 200}


def test_names_that_are_not_text(run, tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff.png"))
    with contextlib.suppress(OSError):  # some disks have none of these
        picture(path)
        assert run(path.parent, out=tmp_path / "o") == 0
        assert reds(tmp_path / "o") == {"\udcff": 200}


@pytest.mark.parametrize("length", [236, 250, 251])
def test_long_names(length, run, tmp_path):
    path = picture(tmp_path / "in" / f"{'x' * length}.png")
    picture(tmp_path / "in" / "y.png")
    fits = length + len(".json") <= 255
    assert run(path.parent, out=tmp_path / "o") == (0 if fits else 1)
    assert len(reds(tmp_path / "o")) == 1 + fits
    assert fits or [line for line in run.lines if str(path) in line and "too long" in line]


def test_all_kinds_of_images_in_a_folder(run, tmp_path):
    names = ["one.png", "two.gif", "three.jfif", "four.webp", "five.TGA", "six.jp2", "seven.ico"]
    for name in names:
        picture(tmp_path / "in" / name, size=(32, 32))
    for name in ("notes.txt", "data.h5", "film.mpg", "figure.eps"):
        (tmp_path / "in" / name).write_text("no picture")
    assert run(tmp_path / "in", out=tmp_path / "o") == 0
    assert {x["file_name"] for x in read(tmp_path / "o" / "images.json")} == set(names)
    (tmp_path / "in" / "photo.heic").write_bytes(b"\0\0\0\x18ftypheic")
    assert run(tmp_path / "in", out=tmp_path / "o") == 1
    assert [line for line in run.lines if "photo.heic" in line]


@pytest.mark.parametrize(("name", "count"), [("a.tif", 2), ("b.gif", 3), ("c.webp", 2)])
def test_the_first_of_several_pages_is_said(name, count, run, tmp_path):
    pages = [Image.new("RGB", (6, 4), (200 + i, 150, 90 * i)) for i in range(count)]
    (tmp_path / "in").mkdir()
    path = tmp_path / "in" / name
    pages[0].save(path, save_all=True, append_images=pages[1:], lossless=True)
    assert run(path, out=tmp_path / "o") == 0
    assert f"{path}: the first of {count} pages was segmented" in run.lines
    assert reds(tmp_path / "o") == {path.stem: 200}
