"""`m2f eval compare`: two finished evaluations beside each other."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from m2f_jax.cli.arguments import EvalCompare
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.eval.analysis.comparison import (
    Comparison,
    boundary_problem,
    compare,
    compare_boundaries,
)
from m2f_jax.eval.analysis.finished import read_finished
from m2f_jax.eval.analysis.tables import write_csv
from m2f_jax.eval.report.comparison import LISTED, change_text, write_comparison
from m2f_jax.files import write_json


def compare_evaluations(command: EvalCompare, console: Console) -> int:
    """Prints and writes what changed from the first evaluation to the second."""
    first, second = read_finished(Path(command.first)), read_finished(Path(command.second))
    comparison, out = compare(first, second), Path(command.out)
    boundary = compare_boundaries(first, second)
    out.mkdir(parents=True, exist_ok=True)
    write_json(
        out / "compare.json",
        {
            "task": first.task,
            "folders": [command.first, command.second],
            "settings": [dict(first.settings), dict(second.settings)],
            **comparison.to_json(),
            **({} if boundary is None else {"boundary": boundary.to_json()}),
        },
    )
    classes, images = comparison.class_rows(), comparison.image_rows()
    if boundary is not None:
        classes = beside(classes, boundary.class_rows(), "class", boundary.name)
        images = beside(images, boundary.image_rows(), "image", boundary.image_name)
    for name, rows in (("classes", classes), ("images", images)):
        write_csv(out / f"{name}.csv", rows, list(rows[0]) if rows else [name])
    write_comparison(out / "compare.html", comparison, boundary, first, second)
    print_comparison(comparison)
    if boundary is not None:
        print_comparison(boundary)
    if problem := boundary_problem(first, second):
        console.print(problem)
    console.print(f"the comparison is in {out}")
    return 0


def beside(
    rows: Sequence[Mapping[str, Any]], others: Sequence[Mapping[str, Any]], key: str, name: str
) -> list[dict[str, Any]]:
    """Returns rows with the columns of others of the same order, after the name of their score."""
    return [
        {**row} | {f"{name} {column}": x for column, x in other.items() if column != key}
        for row, other in zip(rows, others, strict=True)
    ]


def print_comparison(comparison: Comparison):
    """Prints the classes by how much they changed, the images that changed most, and the total."""
    console = terminal(errors=False)
    rows = sorted(comparison.class_rows(), key=lambda row: -finite(row["change"]))
    table = Table(show_edge=False, pad_edge=False)
    for i, column in enumerate((comparison.name, "first", "second", "change", "95 % interval", "")):
        table.add_column(column, justify="left" if i in (0, 5) else "right")
    for row in rows:
        table.add_row(row["class"], *numbers(row), row["verdict"])
    console.print(table, soft_wrap=False)
    changed = comparison.changed_images(LISTED)
    for words, which in zip(("better", "worse"), changed, strict=True):
        if which:
            console.print(f"images that got {words} by most ({comparison.image_name}):")
        for i in which:
            scores = [100 * float(scores[i]) for scores in comparison.image_scores]
            console.print(
                f"  {comparison.images[i]}: {scores[0]:.1f} to {scores[1]:.1f}", markup=False
            )
    console.print(change_text(comparison))


def numbers(row: Mapping[str, Any]) -> Sequence[str]:
    """Returns a class's numbers as text, with dashes where there are none."""
    if row["change"] != row["change"]:
        return ["-"] * 4
    texts = [f"{row[name]:.1f}" for name in ("first", "second")]
    return [*texts, f"{row['change']:+.1f}", f"{row['low']:+.1f} to {row['high']:+.1f}"]


def finite(change: float) -> float:
    """Returns a change to sort by, so that classes without one come last."""
    return -math.inf if math.isnan(change) else change
