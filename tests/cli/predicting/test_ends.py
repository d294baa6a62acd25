"""Killed, or out of space: nothing is lost."""

import contextlib
import errno
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.predicting.conftest import annotations, files, picture, read, reds

ROOT = Path(__file__).parents[3]


class Killed(BaseException):
    """The process ends here, and nothing after it has any effect."""


def killed_at(point: int, patch: pytest.MonkeyPatch):
    """Lets the process end at its `point`th change of the disk; what it wrote then is cut short."""
    left = iter(range(point))

    def dies() -> bool:
        return next(left, None) is None

    def patched(change, *, cut=False):
        def perform(path, *data, **options):
            if dies():
                if cut and not path.exists():
                    change(path, data[0][: len(data[0]) // 2], **options)
                raise Killed
            return change(path, *data, **options)

        return perform

    for name in ("write_text", "write_bytes"):
        patch.setattr(Path, name, patched(getattr(Path, name), cut=True))
    for name in ("replace", "unlink"):
        patch.setattr(Path, name, patched(getattr(Path, name)))


@pytest.mark.parametrize("before", ["nothing", "another picture", "other ids"])
def test_killed_at_any_point_nothing_is_lost(before, run, tmp_path):
    """Whatever the process was about to change, the next run ends in the same folder."""
    paths = [picture(tmp_path / "in" / f"{i}.png", 200 + i) for i in range(2)]
    arguments = [tmp_path / "in", "--task", "semantic"]
    assert run(*arguments, out=tmp_path / "before") == 0
    if before == "another picture":
        picture(paths[1], 210)
    elif before == "other ids":
        images = [{"id": 9 - i, "file_name": path.name} for i, path in enumerate(paths)]
        arguments += ["--annotations", annotations(tmp_path / "a.json", images)]
    assert run(*arguments, out=tmp_path / "whole") == 0
    wanted = {x: (tmp_path / "whole" / x).read_bytes() for x in files(tmp_path / "whole")}
    for point in range(100):
        out = tmp_path / f"o{point}"
        if before != "nothing":
            shutil.copytree(tmp_path / "before", out)
        with pytest.MonkeyPatch.context() as patch:
            killed_at(point, patch)
            with contextlib.suppress(Killed):
                run(*arguments, out=out)
                break
        for name in files(out):  # none is cut short
            assert name.endswith((".tmp", ".jpg", ".png")) or read(out / name) is not None
        if {"predictions.json", "images.json"} <= files(out):
            images = read(out / "images.json")
            assert {f"results/{Path(x['file_name']).stem}.json" for x in images} == {
                name for name in files(out) if name.startswith("results") and ".tmp" not in name
            }
            ids = {image["id"] for image in images}
            assert {x["image_id"] for x in read(out / "predictions.json")} == ids
        assert run(*arguments, out=out) == 0
        assert {x: (out / x).read_bytes() for x in files(out)} == wanted
    assert point >= 10


@pytest.mark.parametrize("place", ["overlays/02.jpg", "maps/02.png", "results/02.json"])
def test_a_full_disk_ends_the_run_with_one_line(place, run, tmp_path):
    for i in range(20):
        picture(tmp_path / "in" / f"{i:02}.png")
    out, arguments = tmp_path / "o", (tmp_path / "in", "--task", "semantic")
    replace = Path.replace

    def full(path, target):
        if target == out / place:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(path, target)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert run(*arguments, out=out) == 1
    lines = [line for line in run.lines if line.startswith("m2f: ")]
    assert lines == [f"m2f: {out / place}: No space left on device"]
    assert not (out / "predictions.json").exists()
    assert run(*arguments, out=out) == 0
    assert len(read(out / "images.json")) == 20


def test_a_full_disk_at_the_end_is_named(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"

    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    assert run(path, out=out) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        assert run(path, out=out) == 1
    assert run.lines[-1] == f"m2f: {out / 'run.json'}: No space left on device"


HOLDER = """
import sys, time
from pathlib import Path
from m2f_jax.cli.predicting.folder import holding_folder
from m2f_jax.files import replacing
out = Path(sys.argv[1])
with holding_folder(out, overwrite=False), replacing(out / "overlays" / "a.jpg") as unfinished:
    unfinished.write_bytes(b"half")
    print(flush=True)
    time.sleep(600)
"""


def test_one_run_at_a_time_and_nothing_is_left_of_a_killed_one(run, tmp_path, request):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, out=out) == 0
    command = [sys.executable, "-c", HOLDER, str(out)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) as holder:
        request.addfinalizer(holder.kill)
        assert holder.stdout.readline() == b"\n"
        picture(path, 210)
        assert run(path, out=out) == 1
        assert run.lines == [
            f"m2f: {out} is in use by another m2f predict; wait for it or stop it, or name another "
            "--out"
        ]
        holder.send_signal(signal.SIGKILL)
    assert reds(out) == {"p": 200}
    assert any(x.endswith(".tmp") for x in files(out))
    (out / "mine.tmp").touch()
    assert run(path, out=out) == 0
    assert reds(out) == {"p": 210}
    assert [x for x in files(out) if x.endswith(".tmp")] == ["mine.tmp"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--clip-length", 5], "--clip-length is for a --video, not for images"),
        (["--clip-overlap", 5], "--clip-overlap is for a --video, not for images"),
        (["--parquet"], "--parquet needs --ray, the address of a cluster, or --ray local"),
        (["--actors", 2], "--actors needs --ray, the address of a cluster, or --ray local"),
        (["--ray", "local", "--parquet", "--boxes"], "--boxes is for files, not for --parquet"),
        (
            ["s3://b/photos", "--ray", "local"],
            "s3://b/photos is a URI, which only --ray with --parquet reads; download it first",
        ),
    ],
)
def test_options_that_mean_nothing_are_refused(arguments, message, run, tmp_path):
    assert run(picture(tmp_path / "p.png"), *arguments, out=tmp_path / "o") == 1
    assert run.lines == [f"m2f: {message}"]
    assert not (tmp_path / "o").exists()


def test_a_uri_is_no_output_folder(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(picture(tmp_path / "p.png"), "--ray", "local", out="s3://b/out") == 1
    assert run.lines[0].startswith("m2f: s3://b/out is a URI, which only m2f predict with --ray")
    assert [x.name for x in tmp_path.iterdir()] == ["p.png"]


def test_a_file_is_no_output_folder(run, tmp_path):
    path = picture(tmp_path / "p.png")
    assert run(path, out=path) == 1
    assert run.lines == [f"m2f: {path} is a file; name a folder with --out"]
