"""Tables and notes, printed and written as Markdown and JSON."""

import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rich.console import Console
from rich.markdown import Markdown

from m2f_jax.files import write_json
from measuring.options import Reported

WIDTH = 160  # of what goes into a file or a pipe, so that nothing is cut

Notes = Mapping[str, Mapping[str, Any]]


class Table(NamedTuple):
    """A table as text.

    Attributes:
        title: the heading.
        columns: the names of the columns; the first is aligned left, the others right.
        lines: the cells of each line.
    """

    title: str
    columns: Sequence[str]
    lines: Sequence[Sequence[str]]

    @classmethod
    def of(cls, title: str, records: Sequence[Mapping[str, Any]]) -> "Table":
        """Returns a table with a line for each record and a column for each of its entries."""
        return cls(title, list(records[0]), [[text_of(x) for x in r.values()] for r in records])

    def markdown(self) -> str:
        """Returns the table for a document."""
        rule = ["---", *["---:"] * (len(self.columns) - 1)]
        lines = [self.columns, rule, *self.lines]
        return f"## {self.title}\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def text_of(value: Any) -> str:
    """Returns a cell; numbers keep all digits before the point, and at least three digits."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:#.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def line_of(name: str, values: Mapping[str, Any]) -> str:
    """Returns a note as a line, without nested values."""
    texts = {
        key: f"{value:.3g}" if isinstance(value, float) else str(value)
        for key, value in values.items()
        if not isinstance(value, dict)
    }
    return f"{name}: " + ", ".join(f"{key} {text}" for key, text in texts.items())


def say(text: str):
    """Prints progress to stderr."""
    print(f"{time.strftime('%H:%M:%S')}  {text}", file=sys.stderr, flush=True)


def publish(options: Reported, tables: Sequence[Table], notes: Notes, content: Mapping[str, Any]):
    """Prints tables and notes, and writes the files that were asked for."""
    console = Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False)
    lines = [line_of(name, values) for name, values in notes.items() if values]
    for table in tables:
        console.print(Markdown(table.markdown()))
    for line in lines:
        console.print(line, soft_wrap=True, markup=False)
    if options.json:
        write_json(options.json, content)
    if options.markdown:
        listed = "".join(f"- {line}\n" for line in lines)
        options.markdown.write_text("\n".join([*(x.markdown() for x in tables), listed]))
