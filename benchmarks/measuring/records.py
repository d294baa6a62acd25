"""Comparison of a run's ratios with those of a record, which an earlier run wrote with --json.

Times are never compared: they are of another run.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from m2f_jax.files import read_json
from measuring.options import Compared
from measuring.tables import Notes, Table, publish, text_of

OURS = "m2f-jax"


class Row(NamedTuple):
    """A line of a comparison: the value of each side, and ours divided by theirs."""

    name: str
    unit: str
    values: Mapping[str, float]
    ratios: Mapping[str, float]

    @classmethod
    def of(cls, name: str, unit: str, values: Mapping[str, float]) -> "Row":
        """Returns a row whose ratios are those of its values."""
        theirs = {peer: value for peer, value in values.items() if peer != OURS}
        return cls(name, unit, values, {peer: values[OURS] / x for peer, x in theirs.items()})

    @classmethod
    def timed(cls, name: str, seconds: Mapping[str, Sequence[float]]) -> "Row":
        """Returns medians in milliseconds, and the medians of the ratios within a round."""
        ratios = {
            peer: statistics.median(a / b for a, b in zip(seconds[OURS], theirs, strict=True))
            for peer, theirs in seconds.items()
            if peer != OURS
        }
        values = {side: 1000 * statistics.median(times) for side, times in seconds.items()}
        return cls(name, "ms", values, ratios)


class Comparison:
    """A benchmark beside peers, and the record that its ratios are compared with, if any.

    Make it before anything is measured, so that a record of something else is refused early.

    Attributes:
        options: from the command line.
        content: what will be written as JSON: name, settings, machine, versions.
        record: the content of the file that --against names, or nothing.
    """

    def __init__(
        self, benchmark: str, options: Compared, settings: Mapping[str, Any], notes: Notes
    ):
        """Reads the record.

        Raises:
            SystemExit: the file is no record, or one of another benchmark or of other settings.
        """
        self.options, self.notes = options, notes
        self.content = {"benchmark": benchmark, "title": "", "settings": settings, **notes}
        self.record: Mapping[str, Any] = {}
        if path := options.against:
            try:
                self.record = read_json(path)
                found, recorded = self.record["benchmark"], dict(self.record["settings"])
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise SystemExit(f"--against {path}: no report of --json ({error})") from None
            if found != benchmark:
                raise SystemExit(f"--against {path}: of {found}.py, not of {benchmark}.py")
            if changes := list(differences(recorded, settings)):
                raise SystemExit(f"--against {path}: of other settings: {'; '.join(changes)}")

    def publish(
        self,
        title: str,
        rows: Sequence[Row],
        *,
        others: Sequence[Table] = (),
        notes: Notes | None = None,
        **details: Any,
    ):
        """Prints the rows, beside the record if there is one, and writes the files asked for.

        Args:
            title: the table's title.
            rows: the table's rows.
            others: tables to print before it.
            notes: more lines to print below it.
            details: values for the JSON alone.

        Raises:
            SystemExit: a ratio is worse than the recorded one.
        """
        notes, margin = notes or {}, self.options.margin
        listed = [row._asdict() for row in rows]
        content = {**self.content, "title": title, **notes, "rows": listed, **details}
        told = {**self.notes, **notes, "settings": self.content["settings"]}
        tables, worse = [*others, table_of(title, rows)], []
        if self.record:
            table, worse = compare(ratios_of(self.record["rows"]), ratios_of(listed), margin)
            tables.append(table._replace(title=f"beside {self.options.against}"))
            told["since the record"] = {
                name: "; ".join(differences(self.record.get(name, {}), content[name]))
                or "as recorded"
                for name in ("machine", "versions")
            }
        publish(self.options, tables, told, content)
        if worse:
            raise SystemExit(f"worse than recorded by more than {margin:g} %: {'; '.join(worse)}")


def table_of(title: str, rows: Sequence[Row]) -> Table:
    """Returns a line for each row: our value, and of each peer its value and the ratio."""
    peers = list(dict.fromkeys(peer for row in rows for peer in row.ratios))
    columns = ["", OURS, *(name for peer in peers for name in (peer, "ours / theirs"))]
    lines = []
    for row in rows:
        line = [f"{row.name}, {row.unit}", text_of(row.values[OURS])]
        for peer in peers:
            there = peer in row.values
            line += (
                [text_of(row.values[peer]), text_of_ratio(row.ratios[peer])] if there else ["", ""]
            )
        lines.append(line)
    return Table(title, columns, lines)


def compare(
    recorded: Mapping[Any, float], now: Mapping[Any, float], margin: float
) -> tuple[Table, list[str]]:
    """Returns each ratio beside the recorded one, and the names of those that are worse."""
    lines, worse = [], []
    for key in {**recorded, **now}:
        name, change, verdict = ", ".join(key), "", ""
        cells = [text_of_ratio(found[key]) if key in found else "" for found in (recorded, now)]
        if key in recorded and key in now:
            percent = 100 * (now[key] / recorded[key] - 1)
            change = f"{percent:+.0f} %"
            if not percent <= margin:
                verdict = "worse"
                worse.append(name)
        else:
            verdict = "new" if key in now else "gone"
        lines.append([name, *cells, change, verdict])
    columns = ["ours / theirs", "recorded", "now", "change", f"margin {margin:g} %"]
    return Table("", columns, lines), worse


def ratios_of(rows: Sequence[Mapping[str, Any]]) -> dict[tuple[str, str], float]:
    """Returns the ratios by row and peer."""
    return {
        (f"{row['name']}, {row['unit']}", peer): ratio
        for row in rows
        for peer, ratio in row["ratios"].items()
    }


def differences(recorded: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """Yields what differs, as "name recorded, now other"."""
    now = json.loads(json.dumps(now))  # the record's tuples are lists
    for name in {**recorded, **now}:
        before, after = recorded.get(name, "nothing"), now.get(name, "nothing")
        if before != after:
            yield f"{name} {before}, now {after}"


def text_of_ratio(ratio: float) -> str:
    """Returns a cell with at least two significant digits."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"
