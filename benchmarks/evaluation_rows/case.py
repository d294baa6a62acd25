"""Tools that score the same files, each run in a process of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

# A small process between, since a child's peak memory contains that of the process it came from.
LAUNCHER = """
import os, subprocess, sys, time
start = time.perf_counter()
process = subprocess.Popen(sys.argv[2:], stdout=2, stdin=subprocess.DEVNULL)
_, status, used = os.wait4(process.pid, 0)
wall = time.perf_counter() - start
with open(sys.argv[1], "w") as file:
    print([used.ru_utime + used.ru_stime, wall, used.ru_maxrss * 1024], file=file)
sys.exit(os.waitstatus_to_exitcode(status))
"""
PYTHON = [sys.executable, "-P", "-c"]
M2F = [*PYTHON, "import sys; from m2f_jax.cli import main; sys.exit(main())"]


@dataclass(frozen=True, kw_only=True)
class Data:
    """The settings of a case.

    Attributes:
        folder: an empty folder for its files.
        images: the number of images to draw.
        official_python: a Python that has cityscapesScripts; None to leave its rows out.
    """

    folder: Path
    images: int
    official_python: str | None


class Tool(NamedTuple):
    """A program that scores files.

    Attributes:
        command: takes a number of images and an empty folder; returns the command that scores so
            many images and writes its numbers into the folder.
        numbers: reads from that folder the numbers in which all tools of a case must agree; None
            where the program writes none.
    """

    command: Callable[[int, Path], Sequence[str]]
    numbers: Callable[[Path], Any]


class Case(NamedTuple):
    """Files, and the tools that score them.

    Attributes:
        title: what is scored.
        ours: our tools, by what follows the title in a row's name.
        theirs: the other tools, by name.
    """

    title: str
    ours: Mapping[str, Tool]
    theirs: Mapping[str, Tool]


class Used(NamedTuple):
    """CPU seconds (user and system), wall seconds and peak memory of a process."""

    cpu: float
    wall: float
    peak_bytes: float


def run(tool: Tool, count: int, folder: Path) -> tuple[Used, Any]:
    """Scores the first images in a process of its own; returns what it took, and the numbers.

    Raises:
        SystemExit: the process failed; what it printed is on stderr.
    """
    folder.mkdir(parents=True)
    usage, out = folder / "usage.json", folder / "out"
    out.mkdir()
    command = [sys.executable, "-S", "-c", LAUNCHER, usage, *tool.command(count, out)]
    if subprocess.run(command, env=os.environ, cwd=folder, check=False).returncode:
        raise SystemExit(f"failed, see above: {' '.join(map(str, command[5:]))[:300]}")
    return Used(*json.loads(usage.read_text())), tool.numbers(out)
