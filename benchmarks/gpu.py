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

import argparse
import contextlib
import importlib
import importlib.util
import json
import os
import re
import selectors
import subprocess
import sys
import time
import traceback
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from machine import processor_name, versions
from reporting import Grid, say, text_of

MINUTES = 9
READY = "ready for the device"  # what a row's process says when all it lacks is the GPU
COMPILED = "compiled"
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # toy programs compile in half the time
PROCESSORS = 3  # of a process; with one each, 16 programs took 90 s to compile, alone 40
LATEST_START = 5  # seconds before the end in which nothing is begun any more


@dataclass
class Process:
    """A row's process, and where it stands."""

    name: str
    limit: float  # seconds that it may measure
    popen: subprocess.Popen
    log: Path
    started: float
    ready: float | None = None
    measuring: float | None = None


@dataclass
class Suite:
    """What is to be run, and what has come of it."""

    out: Path
    arguments: Sequence[str]  # of a row's process
    deadline: float
    slots: int
    machine: Mapping[str, Any]
    waiting: list[str]  # in the order in which they start
    environment: Mapping[str, str]  # of every row's process
    running: dict[str, Process] = field(default_factory=dict)
    outcomes: dict[str, dict[str, Any]] = field(default_factory=dict)

    def run(self):
        """Runs rows until there are none left, or no time."""
        from gpu_rows import ROWS

        selector = selectors.DefaultSelector()
        try:
            while self.waiting or self.running:
                left = self.deadline - time.monotonic()
                if left <= 0:
                    break
                self.start_rows(selector, left)
                self.give_the_device(ROWS)
                for key, _ in selector.select(timeout=min(1.0, left)):
                    self.read(selector, key.data)
                self.stop_slow_rows(selector)
        finally:
            for name in list(self.running):
                self.end(selector, name, "cut off")
            selector.close()
            for name in self.waiting:
                self.outcomes[name] = {"status": "not begun"}
            self.write()

    def start_rows(self, selector: selectors.BaseSelector, left: float):
        """Starts processes in free slots; one that wants the machine for itself starts alone."""
        from gpu_rows import ROWS

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
            log = self.out / "logs" / f"{file_name(name)}.log"
            with log.open("w") as stderr:
                popen = subprocess.Popen(
                    [sys.executable, __file__, "--row", name, *self.arguments],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stderr,
                    text=True,
                    start_new_session=True,
                    env={**os.environ, **self.environment, **row.environment},
                )
            self.running[name] = Process(name, row.limit, popen, log, time.monotonic())
            assert popen.stdout is not None
            selector.register(popen.stdout, selectors.EVENT_READ, name)

    def give_the_device(self, rows: Mapping[str, Any]):
        """Lets the first of the rows that are ready measure, if none does."""
        if any(process.measuring for process in self.running.values()):
            return
        ready = [name for name, process in self.running.items() if process.ready]
        if not ready:
            return
        name = min(ready, key=list(rows).index)
        process = self.running[name]
        say(f"{name}: measuring")
        process.measuring = time.monotonic()
        assert process.popen.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.popen.stdin.write(f"{self.deadline - time.monotonic():.0f}\n")
            process.popen.stdin.flush()

    def read(self, selector: selectors.BaseSelector, name: str):
        """Takes what a process says: that it is ready, or its figures in the last line."""
        process = self.running[name]
        assert process.popen.stdout is not None
        line = process.popen.stdout.readline()
        if line.strip() == READY:
            process.ready = time.monotonic()
            return
        with contextlib.suppress(ValueError):
            found = json.loads(line)
            if isinstance(found, dict) and "figures" in found:
                self.outcomes[name] = {"status": "measured", **found}
                return
        if not line:
            self.end(selector, name, "failed")

    def stop_slow_rows(self, selector: selectors.BaseSelector):
        """Ends rows that measure for longer than they may."""
        now = time.monotonic()
        for name, process in list(self.running.items()):
            if process.measuring and now - process.measuring > process.limit:
                self.end(selector, name, "too slow")

    def end(self, selector: selectors.BaseSelector, name: str, otherwise: str):
        """Notes how a row ended, and writes everything anew."""
        process = self.running.pop(name)
        assert process.popen.stdout is not None
        selector.unregister(process.popen.stdout)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.popen.pid, 9)
        process.popen.wait()
        process.popen.stdout.close()
        if process.popen.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                process.popen.stdin.close()
        now = time.monotonic()
        outcome = self.outcomes.setdefault(name, {"status": otherwise})
        if outcome["status"] != "measured":
            outcome["log"] = process.log.read_text(errors="replace")[-2000:]
        outcome["seconds to get ready"] = (process.ready or now) - process.started
        outcome["seconds of the device"] = now - process.measuring if process.measuring else 0.0
        say(f"{name}: {outcome['status']}")
        self.write()

    def write(self):
        """The two files, each whole at any moment."""
        from gpu_rows import ROWS

        known = {name: self.outcomes[name] for name in ROWS if name in self.outcomes}
        content = {"benchmark": "gpu", "machine": self.machine, "rows": known}
        replace(self.out / "gpu.json", json.dumps(content, indent=1) + "\n")
        replace(self.out / "gpu.md", markdown(self.machine, known))


def replace(path: Path, text: str):
    """Writes a file in one go."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text)
    os.replace(temporary, path)


def file_name(name: str) -> str:
    """A row's name without what file systems dislike."""
    return re.sub(r"\W+", "_", name).strip("_")


def markdown(machine: Mapping[str, Any], outcomes: Mapping[str, Mapping[str, Any]]) -> str:
    """A line for each figure, and what failed."""
    lines, failures = [], []
    for name, outcome in outcomes.items():
        if outcome["status"] != "measured":
            failures.append([name, outcome["status"]])
        for figure in outcome.get("figures", ()):
            spread = " to ".join(text_of(figure[x]) for x in ("least", "most") if x in figure)
            value = f"{text_of(figure['value'])} {figure['unit']}".strip()
            lines.append([name, figure["what"], value, spread])
    parts = [Grid("measured", ["row", "what", "value", "least to most"], lines).markdown()]
    if failures:
        parts.append(Grid("without figures", ["row", "status"], failures).markdown())
    parts.append("".join(f"- {key}: {value}\n" for key, value in machine.items()))
    return "\n".join(parts)


# In a row's process


def run_row(name: str, options: argparse.Namespace):
    """Gets ready, waits for the device, measures, and prints the figures as JSON."""
    # What libraries print goes to the log; stdout is for the suite.
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from gpu_rows import ROWS, Job, Scale

    def tell(text: str):
        print(text, file=stdout, flush=True)

    scale = Scale.toy() if options.toy else Scale.full()
    job = Job(scale, options.device, options.out)
    start_compiling(options, job)
    row = ROWS[name].measure(job)
    next(row)
    tell(READY)
    job.seconds_left = float(sys.stdin.readline() or 0)
    try:
        next(row)
    except StopIteration as end:
        figures, details = end.value
        tell(json.dumps({"figures": figures, "details": details}))
        return
    raise AssertionError(f"{name} waits for the device twice")


def start_compiling(options: argparse.Namespace, job: Any):
    """Sets JAX up: no memory is taken in advance, and everything compiled is kept."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    os.environ["JAX_PLATFORMS"] = "cpu" if job.device == "cpu" else "cuda,cpu"
    import jax

    jax.config.update("jax_compilation_cache_dir", str(options.out / COMPILED))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


# From the command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--out", type=Path, help="the folder of figures, logs and programs")
    parser.add_argument("--minutes", type=float, default=MINUTES, help="everything ends by then")
    parser.add_argument("--rows", nargs="+", metavar="ROW", help="only these; by default all")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--toy", action="store_true", help="toy sizes, to see that it runs")
    parser.add_argument(
        "--slots", type=int, help="processes at a time; by default a third of processors"
    )
    parser.add_argument("--list", action="store_true", help="show the rows and end")
    parser.add_argument("--row", help=argparse.SUPPRESS)  # of this process
    options = parser.parse_args(arguments)
    if not options.list and options.out is None:
        parser.error("--out FOLDER is missing")
    if not 0 < options.minutes < 24 * 60:
        parser.error("--minutes is more than 0")
    return options


def chosen_rows(names: Iterable[str] | None, device: str) -> list[str]:
    """The rows to run, in the order in which they start.

    What others wait for and what compiles for long starts first.

    Raises:
        SystemExit: there is no such row.
    """
    from gpu_rows import ROWS, WEIGHTS

    if unknown := sorted(set(names or ()) - set(ROWS)):
        raise SystemExit(f"no row is called {', '.join(unknown)}; see --list")
    wanted = [name for name in ROWS if names is None or name in names]
    if left_out := [name for name in wanted if device == "cpu" and not ROWS[name].on_cpu]:
        say(f"left out on a CPU: {', '.join(left_out)}")
        wanted = [name for name in wanted if name not in left_out]
    return sorted(wanted, key=lambda name: (name != WEIGHTS, not ROWS[name].slow_to_start))


def check_modules(device: str):
    """Imports what rows import later, so that nothing is found missing in the middle.

    Raises:
        SystemExit: a module is missing.
    """
    missing = []
    for name in ("m2f_jax.cli.train", "torch", "transformers"):
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


def describe_machine(options: argparse.Namespace) -> dict[str, Any]:
    """What the figures are of; asked without taking the GPU."""
    gpu = "none"
    if options.device == "cuda":
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        with contextlib.suppress(OSError, subprocess.CalledProcessError):
            gpu = subprocess.run(query, check=True, capture_output=True, text=True).stdout.strip()
    packages = ["transformers", "torch", "triton", "jax-triton"]
    found = versions()
    for package in packages:
        with contextlib.suppress(Exception):
            found |= {package: versions(package)[package]}
    return {
        "GPU": gpu,
        "CPU": processor_name(),
        "processors": os.cpu_count(),
        "sizes": "toy" if options.toy else "full",
        **found,
    }


def main(arguments: Sequence[str] | None = None):
    """Runs the suite, or one of its rows."""
    options = parse(arguments)
    if options.list:
        from gpu_rows import ROWS

        for name, row in ROWS.items():
            print(f"{name}: {row.title}")
        return
    options.out = options.out.resolve()
    (options.out / "logs").mkdir(parents=True, exist_ok=True)
    if options.row:
        try:
            run_row(options.row, options)
        except BaseException:
            traceback.print_exc()
            raise
        return
    check_modules(options.device)
    suite = Suite(
        out=options.out,
        arguments=[
            *("--out", str(options.out), "--device", options.device),
            *(["--toy"] if options.toy else []),
        ],
        deadline=time.monotonic() + 60 * options.minutes,
        slots=options.slots or max(2, (os.cpu_count() or 2) // PROCESSORS),
        machine=describe_machine(options),
        waiting=chosen_rows(options.rows, options.device),
        environment=QUICK if options.toy else {},
    )
    suite.run()
    print((options.out / "gpu.md").read_text())
    missing = [name for name, x in suite.outcomes.items() if x["status"] != "measured"]
    if missing:
        raise SystemExit(f"without figures: {', '.join(missing)}; see {options.out / 'logs'}")


if __name__ == "__main__":
    main()
