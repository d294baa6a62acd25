"""Everything that a GPU has to show, in one command, the most valuable first.

    python benchmarks/gpu.py --minutes 9 --out FOLDER

Every row is a process of its own. All of them get ready side by side: they trace, compile and load
weights; then one after another has the GPU for itself and measures. A row's figures are written to
FOLDER/gpu.json and FOLDER/gpu.md the moment they are known, so being cut off loses one row.
Compiled programs stay in FOLDER/compiled: a second call with the same FOLDER compiles nothing.

    python benchmarks/gpu.py --list                    # the rows
    python benchmarks/gpu.py --toy --device cpu ...    # toy sizes, to see that it runs

benchmarks/README.md says what the rows measure. `pack_wheels.py` fetches what a bare machine lacks.
"""

import contextlib
import importlib
import importlib.util
import os
import subprocess
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import wait
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from gpu_rows import ROWS, WEIGHTS
from gpu_rows.suite.job import Job
from gpu_rows.suite.process import RowProcess
from measuring.machine import processor_name, versions
from measuring.options import parse
from measuring.tables import Table, say, text_of

from m2f_jax.bounds import POSITIVE, Between
from m2f_jax.files import replacing, write_json

PROCESSORS = 3  # of a process; with one each, programs compile at half the speed
LATEST_START = 5  # seconds before the end in which nothing is begun any more


@dataclass(frozen=True, kw_only=True)
class Options:
    """Measure everything that a GPU has to show, the most valuable first."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """The folder for figures, logs and compiled programs."""
    minutes: Annotated[float, POSITIVE] = 9
    """Everything ends by then."""
    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW...")] = tuple(ROWS)
    """The rows to run."""
    device: Literal["cuda", "cpu"] = "cuda"
    """The device to measure."""
    toy: bool = False
    """Take toy sizes, to see that it runs."""
    slots: Annotated[int | None, Between(1)] = None
    """Processes at a time; by default a third of the processors."""
    list: bool = False
    """Show the rows and end."""


@dataclass
class Suite:
    """The rows to run, and their outcomes.

    Attributes:
        job: the settings for every row.
        machine: the machine and versions that the figures are of.
        deadline: when everything ends, as `time.monotonic` counts.
        slots: the most processes at a time.
        waiting: the rows that haven't started, in their order.
        running: the processes of the rows that have.
        outcomes: status, figures and times of each row.
    """

    job: Job
    machine: Mapping[str, Any]
    deadline: float
    slots: int
    waiting: list[str]
    running: dict[str, RowProcess] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self):
        """Runs rows until there are none left, or no time."""
        try:
            while (self.waiting or self.running) and time.monotonic() < self.deadline:
                left = self.deadline - time.monotonic()
                self.start_rows(left)
                self.give_the_device(left)
                pipes: dict[Any, RowProcess] = {
                    process.pipe: process for process in self.running.values()
                }
                for pipe in wait(list(pipes), timeout=min(1.0, left)):
                    self.read(pipes[pipe])
                for process in list(self.running.values()):
                    if process.is_slow():
                        self.end(process, "too slow")
        finally:
            for process in list(self.running.values()):
                self.end(process, "cut off")
            self.outcomes |= {name: {"status": "not begun"} for name in self.waiting}
            self.write()

    def start_rows(self, left: float):
        """Starts processes in free slots; one that wants the machine for itself starts alone."""
        for name in list(self.waiting):
            row = ROWS[name]
            if row.alone and (self.running or name != self.waiting[0]):
                continue
            if any(ROWS[other].alone for other in self.running):
                return
            if len(self.running) >= self.slots or left < LATEST_START:
                return
            if any(other in self.waiting or other in self.running for other in row.after):
                continue
            self.waiting.remove(name)
            self.running[name] = RowProcess(name, self.job)

    def give_the_device(self, left: float):
        """Lets the first of the rows that are ready measure, if none does."""
        ready = [name for name in ROWS if name in self.running and self.running[name].ready]
        if ready and not any(process.measuring for process in self.running.values()):
            say(f"{ready[0]}: measuring")
            self.running[ready[0]].measure(left)

    def read(self, process: RowProcess):
        """Takes a process's message: that it is ready, its figures, or its end."""
        try:
            found = process.pipe.recv()
        except EOFError:
            self.end(process, "failed")
            return
        if found is None:
            process.ready = time.monotonic()
        else:
            self.outcomes[process.name] = {"status": "measured", **found}

    def end(self, process: RowProcess, otherwise: str):
        """Notes how a row ended, and writes everything anew."""
        del self.running[process.name]
        outcome = self.outcomes.setdefault(process.name, {"status": otherwise})
        seconds = process.end()
        if outcome["status"] != "measured":
            outcome["log"] = process.last_words()
        outcome |= seconds
        say(f"{process.name}: {outcome['status']}")
        self.write()

    def write(self):
        """Writes gpu.json and gpu.md, each complete at any moment."""
        known = {name: self.outcomes[name] for name in ROWS if name in self.outcomes}
        content = {"benchmark": "gpu", "machine": self.machine, "rows": known}
        write_json(self.job.out / "gpu.json", content)
        with replacing(self.job.out / "gpu.md") as path:
            path.write_text(markdown(self.machine, known))


def markdown(machine: Mapping[str, Any], outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """Returns a line for each figure, and what failed."""
    lines, failures = [], []
    for name, outcome in outcomes.items():
        if outcome["status"] != "measured":
            failures.append([name, outcome["status"]])
        for figure in outcome.get("figures", ()):
            spread = " to ".join(text_of(figure[x]) for x in ("least", "most") if x in figure)
            value = f"{text_of(figure['value'])} {figure['unit']}".strip()
            lines.append([name, figure["what"], value, spread])
    parts = [Table("measured", ["row", "what", "value", "least to most"], lines).markdown()]
    if failures:
        parts.append(Table("without figures", ["row", "status"], failures).markdown())
    parts.append("".join(f"- {key}: {value}\n" for key, value in machine.items()))
    return "\n".join(parts)


def chosen_rows(names: Iterable[str]) -> list[str]:
    """Returns the rows to run in the order in which they start.

    What others wait for and what compiles for long starts first.

    Raises:
        SystemExit: there is no such row.
    """
    if unknown := sorted(set(names) - set(ROWS)):
        raise SystemExit(f"no row is called {', '.join(unknown)}; see --list")
    wanted = [name for name in ROWS if name in names]
    return sorted(wanted, key=lambda name: (name != WEIGHTS, not ROWS[name].slow_to_start))


def check_modules(device: str):
    """Imports modules that rows need, so that a missing one is found before they start.

    Raises:
        SystemExit: a module is missing.
    """
    missing = []
    for name in ("m2f_jax.cli.commands.train", "torch", "transformers"):
        try:
            importlib.import_module(name)
        except ModuleNotFoundError as error:
            missing.append(error.name or name)
    if device == "cuda" and importlib.util.find_spec("jax_triton") is None:
        missing.append("jax_triton")
    if missing:
        raise SystemExit(
            f"gpu.py needs {', '.join(missing)}; pack_wheels.py fetches what a machine without a "
            "network lacks"
        )


def describe_machine(options: Options) -> dict[str, Any]:
    """Returns the machine and versions, without taking hold of the GPU."""
    gpu = "none"
    if options.device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            gpu = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    return {
        "GPU": gpu,
        "CPU": processor_name(),
        "processors": os.cpu_count(),
        "sizes": "toy" if options.toy else "full",
        **versions("transformers", "torch", "triton", "jax-triton"),
    }


def main(arguments: Sequence[str] | None = None):
    """Runs the suite."""
    options = parse(Options, arguments)
    if options.list:
        print("\n".join(f"{name}: {row.title}" for name, row in ROWS.items()))
        return
    if options.out is None:
        raise SystemExit("--out FOLDER is missing")
    rows, out = chosen_rows(options.rows), options.out.resolve()
    check_modules(options.device)
    (out / "logs").mkdir(parents=True, exist_ok=True)
    suite = Suite(
        job=Job(options.toy, options.device, out),
        machine=describe_machine(options),
        deadline=time.monotonic() + 60 * options.minutes,
        slots=options.slots or max(2, (os.cpu_count() or 2) // PROCESSORS),
        waiting=rows,
    )
    suite.run()
    print((out / "gpu.md").read_text())
    missing = [name for name, x in suite.outcomes.items() if x["status"] != "measured"]
    if missing:
        raise SystemExit(f"without figures: {', '.join(missing)}; see {out / 'logs'}")


if __name__ == "__main__":
    main()
