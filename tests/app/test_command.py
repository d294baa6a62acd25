"""`m2f app`: it says where it is, answers there, and ends with Ctrl-C; other files are refused."""

import re
import signal
import subprocess
import sys
import threading

import pytest

from m2f_jax.cli import main
from tests.app.test_server import http, picture

START = """import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell may have switched off
from m2f_jax.cli import main
sys.exit(main(["app", "--host", "127.0.0.1"]))"""


def test_the_command():
    command = [sys.executable, "-W", "ignore", "-c", START]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        limit = threading.Timer(300, process.kill)
        limit.start()
        try:
            assert process.stderr
            told = ""
            while "Ctrl-C ends it" not in told:
                line = process.stderr.readline()
                assert line, told
                told += line
            said = re.search(r"streets is at (http://127\.0\.0\.1:\d+)/?; only this machine", told)
            assert said, told
            assert http.get(f"{said[1]}/about").json()["model"] == "streets"
            refused = http.post(f"{said[1]}/segment", content=picture()[:60])
            assert refused.status_code == 422
            process.send_signal(signal.SIGINT)
            assert process.stderr.read().endswith("ended\n")
            assert process.wait() == 0
        finally:
            limit.cancel()
            process.kill()


@pytest.mark.parametrize("name", ["a.onnx", "a.m2f"])
def test_exported_files_are_refused(name, tmp_path, capsys):
    (tmp_path / name).write_bytes(b"")
    assert main(["app", "--model", str(tmp_path / name)]) == 1
    told = capsys.readouterr().err
    assert "was exported for images of one size and one task" in told
    assert told.count("\n") == 1
