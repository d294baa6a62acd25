"""Processes of their own."""

import os
import sys

import pytest
from measuring.processes import in_a_process, m2f


def test_a_process_of_its_own(monkeypatch):
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "somewhere")
    assert in_a_process(os.getpid) != os.getpid()
    assert in_a_process(os.getenv, "M2F_ASKED", M2F_ASKED="yes") == "yes"
    assert in_a_process(os.getenv, "JAX_COMPILATION_CACHE_DIR") is None
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] == "somewhere"
    assert "M2F_ASKED" not in os.environ


def test_what_fails_there_fails_here():
    with pytest.raises(SystemExit, match="this is why"):
        in_a_process(sys.exit, "this is why")


def test_a_command_that_fails(capfd):
    with pytest.raises(SystemExit, match="failed, see above: m2f info nowhere"):
        m2f("info", "nowhere")
    assert "m2f: " in capfd.readouterr().err
