"""Evaluation tools that score the same files: ours beside the official ones and other peers.

    python benchmarks/evaluation.py --official-python PATH --rows cityscapes-instance

`PATH` is the Python of an environment in which the official script works: cityscapesScripts 2.3.0
with numpy 1.26; COCO's rows don't need it. Every tool is a process of its own, whose CPU time (user
and system), wall time and peak memory are compared. A process scores `--images` images, and another
one `--fewer` of them: what one image more takes is the difference, and so without the start. All
tools must give the same numbers, to the last bit; COCO's to twelve digits.
"""

import os
import statistics
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
from evaluation_rows import CASES
from evaluation_rows.case import Case, Data, Used, run
from measuring.machine import describe_run, limit_threads
from measuring.options import Compared, Count, compared, parse
from measuring.records import OURS, Comparison, Row
from measuring.tables import say


@dataclass(frozen=True, kw_only=True)
class Options(Compared):
    """Score the same files with our evaluation and other tools."""

    rows: Annotated[tuple[str, ...], tyro.conf.arg(metavar="ROW ...")] = tuple(CASES)
    """The cases to measure; by default all."""
    official_python: str | None = None
    """A Python with cityscapesScripts and numpy 1.26."""
    images: Count = 8
    """The number of images."""
    fewer: Count = 2
    """The number of images of a second run, whose time is subtracted."""


def measure(case: Case, options: Options, folder: Path) -> list[Row]:
    """Returns the rows of a case; its tools take turns.

    Raises:
        SystemExit: a tool failed, or two don't give the same numbers.
    """
    tools = {**case.ours, **case.theirs}
    used: dict[str, list[tuple[Used, Used]]] = {name: [] for name in tools}
    expected: dict[int, tuple[str, Any]] = {}
    for i in range(options.repeats):
        for name in list(tools)[:: -1 if i % 2 else 1]:
            pair = []
            for count in (options.images, options.fewer):
                place = folder / "runs" / f"{i}-{count}-{list(tools).index(name)}"
                one, numbers = run(tools[name], count, place)
                if numbers is not None:
                    first, wanted = expected.setdefault(count, (name, numbers))
                    if numbers != wanted:
                        raise SystemExit(f"{case.title}: {name} differs from {first}, see {place}")
                pair.append(one)
            used[name].append((pair[0], pair[1]))
    return [row for name in case.ours for row in rows_of(case, name, options, used)]


def rows_of(
    case: Case, name: str, options: Options, used: Mapping[str, list[tuple[Used, Used]]]
) -> Iterator[Row]:
    """Yields the rows of one of our tools beside all others."""
    title, more = f"{case.title}{name}", options.images - options.fewer
    sides = {OURS: used[name], **{peer: used[peer] for peer in case.theirs}}
    image = {k: [(a.cpu - b.cpu) / more for a, b in x] for k, x in sides.items()}
    yield Row.timed(f"{title}, an image", image)
    whole = {k: [a.cpu for a, _ in x] for k, x in sides.items()}
    yield Row.timed(f"{title}, {options.images} images and the start", whole)
    wall = {k: [a.wall for a, _ in x] for k, x in sides.items()}
    yield Row.timed(f"{title}, {options.images} images and the start, wall time", wall)
    peak = {k: statistics.median(a.peak_bytes for a, _ in x) / 2**20 for k, x in sides.items()}
    yield Row.of(f"{title}, peak memory", "MiB", peak)


def main(arguments: Sequence[str] | None = None):
    """Measures everything and prints one table."""
    options = parse(Options, arguments)
    if unknown := set(options.rows) - set(CASES):
        raise SystemExit(f"--rows: {', '.join(unknown)}; there are {', '.join(CASES)}")
    if options.fewer >= options.images:
        raise SystemExit("--fewer: less than --images")
    os.environ["JAX_PLATFORMS"] = "cpu"
    settings = compared(options, "cpu", threads=limit_threads(None))
    notes = describe_run(
        {"median of": options.repeats}, "pillow", "zlib-ng", "msgspec", "pycocotools", "hotcoco"
    )
    comparison, rows = Comparison("evaluation", options, settings, notes), []
    for name in options.rows:
        say(name)
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder).resolve()
            data = Data(
                folder=root / "data",
                images=options.images,
                official_python=options.official_python,
            )
            data.folder.mkdir()
            rows += measure(CASES[name](data), options, root)
    comparison.publish("evaluation from files, CPU time", rows)


if __name__ == "__main__":
    main()
