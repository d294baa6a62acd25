"""The process of a row, and its messages to and from the suite."""

import contextlib
import multiprocessing
import os
import signal
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from gpu_rows import ROWS
from gpu_rows.suite.job import Job

COMPILED = "compiled"  # the folder of compiled programs
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}  # toy programs compile in half the time


def run(name: str, job: Job, log: Path, suite: Connection):
    """Gets ready, waits for the device, measures, and hands the figures to the suite."""
    os.setsid()
    with log.open("w") as file:  # of what libraries print, and of a traceback
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    import jax

    jax.config.update("jax_compilation_cache_dir", str(job.out / COMPILED))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    measuring = ROWS[name].start(job)
    next(measuring)
    suite.send(None)
    job.seconds_left = suite.recv()
    try:
        next(measuring)
    except StopIteration as end:
        figures, details = end.value
        suite.send({"figures": figures, "details": details})
    else:
        raise AssertionError(f"{name} waits for the device twice")


class RowProcess:
    """The process of a row.

    Attributes:
        pipe: can be read once the row is ready, then once it has figures, and when it has ended.
        started: when it started, as `time.monotonic` counts.
        ready: when it became ready; None before.
        measuring: when it was given the device; None before.
    """

    def __init__(self, name: str, job: Job):
        """Starts the process."""
        self.name, self.row = name, ROWS[name]
        self.log = job.out / "logs" / f"{name.replace(', ', '_').replace(' ', '_')}.log"
        self.started = time.monotonic()
        self.ready: float | None = None
        self.measuring: float | None = None
        environment = {
            "JAX_PLATFORMS": "cpu" if job.device == "cpu" else "cuda,cpu",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
            **(QUICK if job.toy else {}),
            **self.row.environment,
        }
        spawn = multiprocessing.get_context("spawn")
        self.pipe, theirs = spawn.Pipe()
        self.process = spawn.Process(target=run, args=(name, job, self.log, theirs))
        self.log.unlink(missing_ok=True)
        with mock.patch.dict(os.environ, environment):
            self.process.start()
        theirs.close()

    def measure(self, seconds_left: float):
        """Gives it the device."""
        self.measuring = time.monotonic()
        with contextlib.suppress(BrokenPipeError):
            self.pipe.send(seconds_left)

    def is_slow(self) -> bool:
        """Returns whether it measures for longer than it may."""
        return self.measuring is not None and time.monotonic() - self.measuring > self.row.limit

    def end(self) -> dict[str, Any]:
        """Ends it and what it has started, and returns how long it took."""
        assert self.process.pid is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # once it has a group of its own
        self.process.kill()
        self.process.join()
        self.pipe.close()
        now = time.monotonic()
        return {
            "seconds to get ready": (self.ready or now) - self.started,
            "seconds of the device": now - self.measuring if self.measuring else 0.0,
        }

    def last_words(self) -> str:
        """Returns the end of what it has printed."""
        return self.log.read_text(errors="replace")[-2000:] if self.log.exists() else ""
