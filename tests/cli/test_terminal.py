"""Names are printed as they are, and the command line starts and stops in any surroundings."""

import atexit
import gc
import io
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from rich.console import Console
from rich.table import Table

from m2f_jax import cli
from m2f_jax.cli import running
from m2f_jax.cli.environment.cache import cache_folder, programs_folder
from m2f_jax.cli.terminal.console import printable, terminal
from m2f_jax.cli.terminal.interruption import holding_interruptions
from m2f_jax.cli.terminal.progress import ImageProgress

NAMES = ["IMG [copy].jpg", "x[b]y.jpg", "x[/b].jpg", ":smile:.png", "[red].png", "ä 漢\u202f.png"]


@pytest.mark.parametrize("name", NAMES)
def test_names_are_printed_as_they_are(name):
    console = terminal()
    console.file, console.width = io.StringIO(), 10
    console.print(f"m2f: {name}", style="red")
    table = Table(title=name)
    table.add_column(name)
    table.add_row(name)
    console.width = 200
    console.print(table, soft_wrap=False)
    printed = console.file.getvalue()
    assert printed.startswith(f"m2f: {name}\n")
    assert printed.count(name) == 4


def test_control_characters_are_escaped():
    assert printable("a\x1b[31m\r\x9b") == r"a\x1b[31m\r\x9b"
    assert printable("one\ntwo\u2028") == "one\ntwo\\u2028"
    assert printable(os.fsdecode(b"\xff.png")) == r"\udcff.png"


def test_errors_of_commands_are_printed_as_they_are(capsys, tmp_path):
    name = str(tmp_path / "x[" / "b].pkl\x1b[2J")
    assert running.run(["info", name]) == 1
    assert name.replace("\x1b", r"\x1b") in capsys.readouterr().err


def test_an_ending_process_does_not_look_for_garbage(monkeypatch, capsys):
    at_the_end = []
    monkeypatch.setattr(atexit, "register", at_the_end.append)
    assert cli.main(["info", "nothing/there.pkl"]) == 1
    assert "nothing/there.pkl" in capsys.readouterr().err
    assert at_the_end == [gc.freeze]


def test_interruptions_wait_while_a_process_is_started_which_gets_none():
    blocked = "import signal; print(signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, []))"
    printed = []

    def interrupted():
        with holding_interruptions():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            printed.append(subprocess.check_output([sys.executable, "-c", blocked], text=True))

    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job may ignore it
    try:
        with pytest.raises(KeyboardInterrupt):
            interrupted()
    finally:
        signal.signal(signal.SIGINT, before)
    assert printed == ["True\n"]


@pytest.mark.parametrize("home", ["~", "relative", "/proc/nowhere", "{tmp}/file"])
def test_without_a_home_there_is_no_cache(home, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", home.format(tmp=tmp_path))
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cache_folder() is None
    running.use_compilation_cache()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_users_without_an_entry_have_no_cache(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", lambda _: {}["no such user"])
    assert cache_folder() is None


def test_the_cache_is_where_the_user_says(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "m2f-jax"


@pytest.mark.parametrize("seconds", [None, "3"])
def test_small_programs_are_kept_too_unless_the_user_says_otherwise(monkeypatch, tmp_path, seconds):
    option = "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"
    monkeypatch.setattr(os, "environ", {"XDG_CACHE_HOME": str(tmp_path)})
    if seconds is not None:
        os.environ[option] = seconds
    running.use_compilation_cache()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == str(tmp_path / "m2f-jax" / "xla")
    assert os.environ[option] == (seconds or "0")
    assert programs_folder() == tmp_path / "m2f-jax" / "xla" / "programs"


@pytest.mark.parametrize("where", [None, "", "gs://bucket/compiled"])
def test_programs_are_kept_only_beside_a_cache_on_disk(monkeypatch, where):
    monkeypatch.setattr(
        os, "environ", {} if where is None else {"JAX_COMPILATION_CACHE_DIR": where}
    )
    assert programs_folder() is None


@pytest.mark.parametrize("module", ["tyro", "jax", "PIL.Image"])
def test_an_interruption_during_imports(module):
    """The signal comes when this module is imported; some swallow it."""
    code = f"""
import contextlib, os, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have switched off
class Interrupts:
    def find_spec(self, name, *_):
        if name == {module!r}:
            with contextlib.suppress(KeyboardInterrupt):
                os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Interrupts())
from m2f_jax.cli import main
sys.exit(main(["predict", "nothing.png"]))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 130
    assert ran.stderr == "m2f: interrupted; run the same command again to go on\n"


@pytest.mark.parametrize("arguments", [["models", "--json"], ["--help"]])
def test_whoever_reads_the_output_may_stop(arguments):
    """As `m2f models --json | head -1` does."""
    code = f"import sys; from m2f_jax.cli import main; sys.exit(main({arguments}))"
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-c", code]
    ran = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (ran.returncode, ran.stderr) == (141, "")


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ([1], "1 frame in 10.0 s, the first after 10.0 s"),
        ([1, 1, 1], "3 frames in 30.0 s, the first after 10.0 s, then 0.10 frames/s"),
        ([4], "4 frames in 10.0 s, the first 4 after 10.0 s"),
        ([4, 2], "6 frames in 20.0 s, the first 4 after 10.0 s, then 0.20 frames/s"),
    ],
)
def test_frames_that_are_computed_together_are_not_counted_as_others(counts, line, monkeypatch):
    clock, said = [0.0], io.StringIO()
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    with ImageProgress("x", sum(counts), Console(file=said, width=100), "frame") as progress:
        for count in counts:
            clock[0] += 10
            progress.advance(count)
    assert said.getvalue().strip() == line
