"""Tests of how `m2f train` gets its memory in huge pages."""

import subprocess
import sys

import pytest

from m2f_jax.cli.environment import huge_pages

PROGRAM = """
import os, sys
from pathlib import Path
from m2f_jax.cli import main
from m2f_jax.cli.environment import huge_pages
huge_pages.POLICY = Path(sys.argv.pop())
print(os.getpid(), os.environ.get("GLIBC_TUNABLES"), flush=True)
sys.exit(main())
"""


@pytest.fixture
def program(tmp_path):
    """Returns the lines before the output of an `m2f` with such arguments and such a Linux."""
    policy, script = tmp_path / "enabled", tmp_path / "m2f"
    script.write_text(PROGRAM)

    def run(setting: str | None, *arguments: str, **environment: str) -> list[str]:
        if setting is not None:
            policy.write_text(setting)
        command = [sys.executable, str(script), *arguments, str(policy)]
        found = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
        assert "usage: m2f" in found.stdout
        return found.stdout.partition("usage: m2f")[0].splitlines()

    return run


def test_training_starts_anew_once_with_huge_pages(program):
    first, second = (line.split() for line in program("always [madvise] never", "train", "--help"))
    assert first[0] == second[0]  # the same process
    assert (first[1], second[1]) == ("None", huge_pages.ASK_FOR_HUGE_PAGES)


@pytest.mark.parametrize(
    ("setting", "command", "environment"),
    [
        ("[always] madvise never", "train", {}),
        ("always madvise [never]", "train", {}),
        (None, "train", {}),
        ("always [madvise] never", "predict", {}),
        ("always [madvise] never", "train", {"GLIBC_TUNABLES": "glibc.malloc.check=0"}),
    ],
    ids=["everywhere", "nowhere", "not Linux", "another command", "the user's own settings"],
)
def test_nothing_is_started_anew(program, setting, command, environment):
    [line] = program(setting, command, "--help", **environment)
    assert line.split()[1] == environment.get("GLIBC_TUNABLES", "None")
