"""`m2f models`."""

import json
from typing import Any

from rich.table import Table

from m2f_jax.cli.arguments import Models
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.presets import DATA_SETS, LICENSE, PRESETS, Preset

COLUMNS = ("PQ", "AP", "mIoU")  # AP50 is in the JSON, which need not fit into 80 columns


def run(command: Models) -> int:
    """Prints the published models that all words fit, as a table or as JSON.

    Raises:
        ValueError: there are none.
    """
    words = [word.lower() for word in command.words]
    found = {
        name: preset
        for name, preset in PRESETS.items()
        if all(is_said(word, name, preset) for word in words)
    }
    if not found:
        raise ValueError(
            f"no published model fits {' and '.join(map(repr, command.words))}; m2f models lists "
            "all"
        )
    if command.json:
        print(json.dumps({name: facts_of(preset) for name, preset in found.items()}, indent=2))
        return 0
    console = terminal(errors=False)
    console.print(table_of(found))
    console.print(
        "\nin percent; at shortest/longest edge; M: millions of parameters\n"
        "hub: is on the Hugging Face hub, as m2f info NAME says\n"
        "file: model_final_ and these digits and .pkl is in the authors' model zoos\n"
        f"licence of the weights: {LICENSE}"
    )
    return 0


def is_said(word: str, name: str, preset: Preset) -> bool:
    """Returns whether a word fits a model's backbone, data set, task, architecture, file or hub id.

    The word is in lower case.
    """
    task, data_set = preset.config.task, DATA_SETS[preset.data_set].title
    called = (name, preset.architecture, data_set, task)
    return any(word in text.lower() for text in called) or word in (
        preset.file,
        digits_of(preset),
        (preset.hub or "").lower(),
    )


def digits_of(preset: Preset) -> str:
    """Returns what the authors' file has between "model_final_" and ".pkl"."""
    return preset.file.removeprefix("model_final_").removesuffix(".pkl")


def facts_of(preset: Preset) -> dict[str, Any]:
    """Returns the facts of a published model as plain JSON values, without building it."""
    return {
        "architecture": preset.architecture,
        "data set": DATA_SETS[preset.data_set].title,
        "task": preset.config.task,
        "classes": preset.config.num_classes,
        "queries": preset.config.decoder.num_queries,
        "parameters": preset.parameters,
        "shortest_edge": preset.shortest_edge,
        "longest_edge": preset.longest_edge,
        **origin_of(preset),
    }


def origin_of(preset: Preset) -> dict[str, Any]:
    """Returns the scores of a published model, and where its weights are and their licence."""
    return {
        "published scores (%)": dict(preset.scores),
        "authors' file": preset.file,
        "hub": preset.hub,
        "licence": LICENSE,
    }


def table_of(presets: dict[str, Preset]) -> Table:
    """Returns the models as a table."""
    table = Table("model", box=None, padding=(0, 1, 0, 0))
    for column in (*COLUMNS, "size", "M", "hub", "file"):
        table.add_column(column, justify="right")
    for name, preset in presets.items():
        table.add_row(
            name,
            *(f"{preset.scores[x]:.1f}" if x in preset.scores else "" for x in COLUMNS),
            f"{preset.shortest_edge}/{preset.longest_edge}",
            f"{preset.parameters / 1e6:.1f}",
            "hub" if preset.hub else "",
            digits_of(preset),
        )
    return table
