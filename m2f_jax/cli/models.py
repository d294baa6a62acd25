"""`m2f models`."""

import json
from typing import Any

from rich.table import Table

from m2f_jax.cli.arguments import Models
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.presets import PRESETS, Preset


def run(command: Models) -> int:
    """Prints the published models whose names have all words, as a table or as JSON.

    Raises:
        ValueError: there are none.
    """
    words = [word.lower() for word in command.words]
    found = {
        name: preset
        for name, preset in PRESETS.items()
        if all(word in name.lower() for word in words)
    }
    if not found:
        raise ValueError(
            f"no published model has {' and '.join(map(repr, command.words))} in its name; "
            "m2f models lists all"
        )
    if command.json:
        print(json.dumps({name: facts_of(preset) for name, preset in found.items()}, indent=2))
    else:
        terminal(errors=False).print(table_of(found))
    return 0


def facts_of(preset: Preset) -> dict[str, Any]:
    """What there is to know of a published model without building it, as plain JSON values."""
    config = preset.config
    return {
        "task": config.task,
        "classes": config.num_classes,
        "queries": config.decoder.num_queries,
        "shortest_edge": preset.shortest_edge,
        "longest_edge": preset.longest_edge,
        "published scores (%)": dict(preset.scores),
        "authors' file": preset.file,
    }


def table_of(presets: dict[str, Preset]) -> Table:
    """The models as a table; files by the digits after "model_final_"."""
    table = Table("model", box=None, padding=(0, 1, 0, 0))
    table.add_column("classes", justify="right")
    table.add_column("published, %")
    table.add_column("file")
    for name, preset in presets.items():
        table.add_row(
            name,
            str(preset.config.num_classes),
            ", ".join(f"{metric} {score:.1f}" for metric, score in preset.scores.items()),
            preset.file.removeprefix("model_final_").removesuffix(".pkl"),
        )
    return table
