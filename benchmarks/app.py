"""Loads the page of `m2f app` with many clients at once: what is lost, how long it takes, memory.

    python benchmarks/app.py --requests 200 --clients 20

Clients and server share this machine, over loopback. README.md beside this file says what each row
means.
"""

import contextlib
import dataclasses
import itertools
import queue
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from measuring.machine import check_installed, describe_run, limit_threads
from measuring.options import Count, Reported, Size, compared, parse, refusing
from measuring.processes import M2F
from measuring.tables import Table, publish, say
from PIL import Image

from m2f_jax.app.engine import jpeg
from m2f_jax.bounds import Between
from m2f_jax.streets import street_scene

SEED = 11  # of the streets
PICTURES = 8  # different ones, so that an answer to another client's picture shows
AFTER = 20  # answers, after which memory should grow no more
BUSY, PAUSE = 503, 0.2  # a status; seconds until it is asked again
PATIENCE = 600  # seconds
MEBI = 2**20


@dataclass(frozen=True, kw_only=True)
class Options(Reported):
    """Load the page of m2f app with many clients at once."""

    requests: Count = 200
    """Of all clients together."""
    clients: Count = 20
    """Each asks for its next picture when it has the last one's answer."""
    model: str = "streets"
    """As of m2f app."""
    task: Literal["instance", "panoptic", "semantic"] = "panoptic"
    """Of all requests."""
    size: Size = (512, 1024)
    """Of the pictures, which are drawn streets."""
    threads: Annotated[int | None, Between(1)] = None
    """Of server and clients together; by default all."""


class Served(NamedTuple):
    """A page that is up.

    Attributes:
        address: where it is.
        memory: returns the bytes that its process holds, and the most that it has held.
    """

    address: str
    memory: Callable[[], tuple[int, int]]


class Answer(NamedTuple):
    """What a client got.

    Attributes:
        right: whether it is the answer to the client's own picture, whole.
        seconds: until it was there.
        refused: how often the server was too busy before.
    """

    right: bool
    seconds: float
    refused: int


@contextlib.contextmanager
def served(options: Options) -> Iterator[Served]:
    """Runs `m2f app` in a process of its own.

    Raises:
        SystemExit: it doesn't start.
    """
    command = [sys.executable, "-P", "-c", M2F, "app", "--model", options.model]
    with tempfile.TemporaryDirectory() as folder:
        told = Path(folder, "stderr")
        with told.open("wb") as file, subprocess.Popen(command, stderr=file) as process:
            try:
                while not (found := re.search(r"is at (http://\S+?)/?;", told.read_text())):
                    if process.poll() is not None:
                        raise SystemExit(f"m2f app ended: {told.read_text()}")
                    time.sleep(0.1)
                yield Served(found[1], lambda: memory_of(process.pid))
            finally:
                process.terminate()


def memory_of(process: int | Literal["self"]) -> tuple[int, int]:
    """Returns the bytes that a process holds now, and the most that it has held."""
    status = Path(f"/proc/{process}/status").read_text()
    now, most = (re.search(rf"{name}:\s+(\d+) kB", status) for name in ("VmRSS", "VmHWM"))
    assert now is not None
    assert most is not None
    return 1024 * int(now[1]), 1024 * int(most[1])


def measure(served: Served, pictures: Sequence[bytes], options: Options) -> dict[str, Any]:
    """Returns the rows of both tables: `load` and `memory`."""
    import httpx

    memory: list[dict[str, Any]] = []

    def remember(when: str):
        now, most = served.memory()
        memory.append({"when": when, "MiB": now / MEBI, "most so far, MiB": most / MEBI})

    def ask(client: httpx.Client, number: int) -> tuple[httpx.Response, float, int]:
        query = {"name": f"{number}.jpg", "task": options.task}
        start = time.perf_counter()
        for refused in itertools.count():
            picture = pictures[number % PICTURES]
            response = client.post(f"{served.address}/segment", params=query, content=picture)
            if response.status_code != BUSY:
                return response, time.perf_counter() - start, refused
            time.sleep(PAUSE)
        raise AssertionError

    remember("at the start")
    say("a picture at a time")
    with httpx.Client(timeout=PATIENCE) as client:
        ask(client, 0)  # compiles
        remember("after the first picture")
        alone, seconds = timed_all(lambda i: ask(client, i), range(PICTURES))
    expected = [response.raise_for_status().json()["segments"] for response, *_ in alone]
    one = row_of("one client", [Answer(True, each, n) for _, each, n in alone], seconds)

    say(f"{options.requests} requests of {options.clients} clients")
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in range(options.requests):
        numbers.put(number)
    answers: list[Answer] = []
    lock = threading.Lock()

    def ask_on(_: int):
        with httpx.Client(timeout=PATIENCE) as client:
            while True:
                try:
                    number = numbers.get_nowait()
                except queue.Empty:
                    return
                try:
                    response, took, refused = ask(client, number)
                    answer = Answer(is_right(response, number, expected), took, refused)
                except httpx.HTTPError:
                    answer = Answer(False, float("inf"), 0)
                with lock:
                    answers.append(answer)
                    if len(answers) == AFTER:
                        remember(f"after {AFTER} answers to {options.clients} clients")

    start = time.perf_counter()
    with ThreadPoolExecutor(options.clients) as pool:
        list(pool.map(ask_on, range(options.clients)))
    seconds = time.perf_counter() - start
    remember(f"after {len(answers)} answers")
    many = row_of(f"{options.clients} clients", answers, seconds)
    return {"load": [one, many], "memory": memory}


def is_right(response: Any, number: int, expected: Sequence[Any]) -> bool:
    """Tells whether an answer is that to the picture with this number."""
    if response.status_code != 200:
        return False
    found, name = response.json(), f"{number}.jpg"
    return found["file_name"] == name and found["segments"] == expected[number % PICTURES]


def timed_all(call: Callable[[int], Any], numbers: Sequence[int]) -> tuple[list[Any], float]:
    """Returns what is returned for each number, and the seconds of all together."""
    start = time.perf_counter()
    return [call(number) for number in numbers], time.perf_counter() - start


def row_of(name: str, answers: Sequence[Answer], seconds: float) -> dict[str, str | float]:
    """Returns a row of the table of loads."""
    times = sorted(1000 * x.seconds for x in answers)
    return {
        "": name,
        "requests": len(answers),
        "lost or wrong": sum(not x.right for x in answers),
        "asked again": sum(x.refused for x in answers),
        "pictures/s": len(answers) / seconds,
        "median, ms": statistics.median(times),
        "95 of 100 within, ms": times[min(len(times) - 1, int(0.95 * len(times)))],
    }


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints two tables.

    Raises:
        SystemExit: an answer was lost, or is another one than that to the same picture alone.
    """
    options = parse(Options, arguments)
    check_installed(["app"])
    options = dataclasses.replace(options, threads=limit_threads(options.threads))
    notes: Mapping[str, Any] = {
        **describe_run({}, "gradio", "uvicorn"),
        "settings": compared(options, "cpu"),
    }
    with refusing("--size: "):
        scenes = [street_scene(SEED, i, options.size).image for i in range(PICTURES)]
    pictures = [jpeg(Image.fromarray(scene)) for scene in scenes]
    say(f"m2f app --model {options.model}")
    with served(options) as page:
        found = measure(page, pictures, options)
    tables = [
        Table.of(f"m2f app, {options.model}", found["load"]),
        Table.of("memory of its process", found["memory"]),
    ]
    publish(options, tables, notes, {"benchmark": "app", **notes, **found})
    if lost := sum(int(row["lost or wrong"]) for row in found["load"]):
        raise SystemExit(f"{lost} answers were lost or wrong")


if __name__ == "__main__":
    main()
