"""What is compared: tools that score the same files, each in a process of its own."""

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
    """What a case is made of.

    Attributes:
        folder: for its files; it is empty.
        images: how many to draw.
        official_python: a Python that has cityscapesScripts; None if its rows are left out.
    """

    folder: Path
    images: int
    official_python: str | None


class Tool(NamedTuple):
    """A program that scores files.

    Attributes:
        command: what scores the first images and writes its numbers into an empty folder, of their
            count and that folder.
        numbers: reads what must be the same by every tool of a case, from that folder.
    """

    command: Callable[[int, Path], Sequence[str]]
    numbers: Callable[[Path], Any]


class Case(NamedTuple):
    """Files, and the tools that score them.

    Attributes:
        title: what is scored.
        ours: our tools; the key is what comes after the title in the name of a row.
        theirs: the others by name.
    """

    title: str
    ours: Mapping[str, Tool]
    theirs: Mapping[str, Tool]


class Used(NamedTuple):
    """What a process took: CPU (user and system) and wall seconds, the peak of its memory."""

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
