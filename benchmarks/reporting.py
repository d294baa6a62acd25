"""What a benchmark reports: tables on stdout, in a JSON and in a markdown file.

Where it measures peers, its ratios can be compared with those of a record, which is what an earlier
run wrote with --json. Times are never compared: they are of another run.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from rich.table import Table

OURS = "m2f-jax"
MARGIN = 10  # percent by which a ratio may be worse than the recorded one

Notes = Mapping[str, Mapping[str, Any]]


class Row(NamedTuple):
    """One line of a comparison: what each side took, and ours divided by theirs."""

    name: str
    unit: str
    values: Mapping[str, float]
    ratios: Mapping[str, float]

    @classmethod
    def of(cls, name: str, unit: str, values: Mapping[str, float]) -> "Row":
        """A row whose ratios are those of its values."""
        theirs = {peer: value for peer, value in values.items() if peer != OURS}
        return cls(name, unit, values, {peer: values[OURS] / x for peer, x in theirs.items()})

    @classmethod
    def timed(cls, name: str, seconds: Mapping[str, Sequence[float]]) -> "Row":
        """Medians in milliseconds, and the medians of the ratios within a round."""
        ratios = {
            peer: statistics.median(a / b for a, b in zip(seconds[OURS], theirs, strict=True))
            for peer, theirs in seconds.items()
            if peer != OURS
        }
        values = {side: 1000 * statistics.median(times) for side, times in seconds.items()}
        return cls(name, "ms", values, ratios)


class Grid(NamedTuple):
    """A table as text."""

    title: str
    columns: Sequence[str]  # the first one is to the left, the others to the right
    lines: Sequence[Sequence[str]]

    @classmethod
    def of(cls, title: str, records: Sequence[Mapping[str, Any]]) -> "Grid":
        """A line for each record, a column for each of its entries."""
        return cls(title, list(records[0]), [[text_of(x) for x in r.values()] for r in records])

    def rich(self) -> Table:
        """The table for a terminal."""
        table = Table(title=self.title)
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="right" if i else "left")
        for line in self.lines:
            table.add_row(*line)
        return table

    def markdown(self) -> str:
        """The table for a document."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [self.columns, rule, *self.lines]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


@dataclass(frozen=True, kw_only=True)
class Report:
    """All that a benchmark beside peers found.

    Attributes:
        benchmark: its name, that of its file.
        title: of the table.
        settings: what was measured; only ratios of the same settings can be compared.
        notes: the machine, versions and whatever else is to be told below the table.
        rows: the table.
        others: tables to be shown before it.
        details: what is only in the JSON.
    """

    benchmark: str
    title: str
    settings: Mapping[str, Any]
    notes: Notes
    rows: Sequence[Row]
    others: Sequence[Grid] = ()
    details: Mapping[str, Any] = field(default_factory=dict)

    def table(self) -> Grid:
        """A line for each row: our value, and of each peer its value and the ratio."""
        peers = list(dict.fromkeys(peer for row in self.rows for peer in row.ratios))
        columns = ["", OURS]
        for peer in peers:
            columns += [peer, "ours / theirs"]
        lines = []
        for row in self.rows:
            line = [f"{row.name}, {row.unit}", text_of(row.values[OURS])]
            for peer in peers:
                there = peer in row.values
                line += (
                    [text_of(row.values[peer]), ratio_text(row.ratios[peer])] if there else ["", ""]
                )
            lines.append(line)
        return Grid(self.title, columns, lines)

    def content(self) -> dict[str, Any]:
        """What is written as JSON."""
        return {
            "benchmark": self.benchmark,
            "title": self.title,
            "settings": self.settings,
            **self.notes,
            "rows": [row._asdict() for row in self.rows],
            **self.details,
        }


class Record(NamedTuple):
    """What an earlier run wrote with --json, of the same settings."""

    path: Path
    content: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path, benchmark: str, settings: Mapping[str, Any]) -> "Record":
        """The record in a file.

        Raises:
            SystemExit: it isn't one, or of another benchmark or of other settings.
        """
        try:
            content = json.loads(path.read_text())
            found, recorded = content["benchmark"], dict(content["settings"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(
                f"--against {path}: not a report that --json wrote ({error})"
            ) from None
        if found != benchmark:
            raise SystemExit(f"--against {path}: of {found}.py, not of {benchmark}.py")
        if changes := list(differences(recorded, settings)):
            raise SystemExit(f"--against {path}: of other settings: {'; '.join(changes)}")
        return cls(path, content)

    def compare(self, report: Report, margin: float) -> tuple[Grid, list[str]]:
        """Each ratio beside the recorded one, and the names of those that are worse.

        Args:
            report: what was measured now.
            margin: the percentage above which an increase counts.
        """
        recorded = ratios_of(self.content["rows"])
        now = ratios_of(report.content()["rows"])
        lines, worse = [], []
        for key in recorded | now:
            cells = [ratio_text(ratios[key]) if key in ratios else "" for ratios in (recorded, now)]
            change = verdict = ""
            if key in recorded and key in now:
                percent = 100 * (now[key] / recorded[key] - 1)
                change = f"{percent:+.0f} %"
                if not percent <= margin:
                    verdict = "worse"
                    worse.append(", ".join(key))
            else:
                verdict = "new" if key in now else "gone"
            lines.append([", ".join(key), *cells, change, verdict])
        columns = ["ours / theirs", "recorded", "now", "change", f"margin {margin:g} %"]
        return Grid(f"beside {self.path}", columns, lines), worse

    def changes(self, report: Report) -> dict[str, str]:
        """How machine and versions differ from the recorded ones."""
        now = report.content()
        return {
            name: "; ".join(differences(self.content.get(name, {}), now[name])) or "as recorded"
            for name in ("machine", "versions")
        }


def ratios_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """The ratios by row and peer."""
    return {
        (f"{row['name']}, {row['unit']}", peer): ratio
        for row in rows
        for peer, ratio in row["ratios"].items()
    }


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """What is told apart: "name recorded, now other"."""
    now = json.loads(json.dumps(now))  # the record's tuples are lists
    for name in {**recorded, **now}:
        before, after = recorded.get(name, "nothing"), now.get(name, "nothing")
        if before != after:
            yield f"{name} {before}, now {after}"


def text_of(value: Any) -> str:
    """A cell: of a number, all digits before the point and at least three that count."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def ratio_text(ratio: float) -> str:
    """A cell: two digits that count, or more."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def lines_of(notes: Notes) -> list[str]:
    """A line for each note, without what is nested in it."""
    return [
        f"{name}: "
        + ", ".join(
            f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}"
            for key, value in values.items()
            if not isinstance(value, dict)
        )
        for name, values in notes.items()
        if values
    ]


def say(text: str):
    """Progress, on stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


# From the command line


def add_report_options(parser: argparse.ArgumentParser):
    """Where a report is written to."""
    parser.add_argument("--json", type=new_file, metavar="FILE", help="also write all of it here")
    parser.add_argument("--markdown", type=new_file, metavar="FILE", help="also write tables here")


def add_record_options(parser: argparse.ArgumentParser):
    """The same, and what it is compared with."""
    add_report_options(parser)
    parser.add_argument(
        "--against",
        type=Path,
        metavar="FILE",
        help="compare ratios with those that --json wrote here; exit with 1 if one is worse",
    )
    parser.add_argument(
        "--margin", type=float, default=MARGIN, help=f"percent that isn't worse (default: {MARGIN})"
    )


def new_file(text: str) -> Path:
    """A file that can be written, which is better known before than after measuring."""
    path = Path(text)
    if path.is_dir() or not path.parent.is_dir():
        raise argparse.ArgumentTypeError(f"{path} is a folder, or is in one that isn't there")
    return path


def read_record(
    options: argparse.Namespace, benchmark: str, settings: Mapping[str, Any]
) -> Record | None:
    """What --against asks for; to be called before anything is measured."""
    return options.against and Record.read(options.against, benchmark, settings)


def publish(
    options: argparse.Namespace,
    grids: Sequence[Grid],
    notes: Notes,
    content: Mapping[str, Any],
):
    """Prints tables and notes, and writes the files that were asked for."""
    # In a file or a pipe, wide enough that nothing is cut.
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    for grid in grids:
        console.print(grid.rich())
    for line in lines_of(notes):
        console.print(line, soft_wrap=True, markup=False)
    if options.json:
        options.json.write_text(json.dumps(content, indent=2) + "\n")
    if options.markdown:
        listed = "".join(f"- {line}\n" for line in lines_of(notes))
        options.markdown.write_text("\n".join([*(grid.markdown() for grid in grids), listed]))


def publish_report(options: argparse.Namespace, report: Report, record: Record | None):
    """The same for a report, beside the record if there is one.

    Raises:
        SystemExit: a ratio is worse than the recorded one.
    """
    grids, worse = [*report.others, report.table()], []
    notes = {**report.notes, "settings": report.settings}
    if record:
        grid, worse = record.compare(report, options.margin)
        grids.append(grid)
        notes["since the record"] = record.changes(report)
    publish(options, grids, notes, report.content())
    if worse:
        raise SystemExit(
            f"worse than recorded by more than {options.margin:g} %: {'; '.join(worse)}"
        )
