"""`m2f push`."""

from pathlib import Path

from m2f_jax.cli.arguments import Push
from m2f_jax.cli.terminal.console import terminal
from m2f_jax.convert import open_checkpoint
from m2f_jax.publishing.folder import RUN_FILE
from m2f_jax.publishing.push import publication_of, push


def run(command: Push) -> int:
    """Publishes a model, and says where it is."""
    console, recipe = terminal(), command.recipe
    beside = Path(command.source).parent / RUN_FILE
    if recipe is None and Path(command.source).is_dir() and beside.is_file():
        recipe = str(beside)
        console.print(f"the recipe is that of {recipe}")
    publication = publication_of(
        command.repository,
        command.format,
        command.results,
        recipe,
        command.license,
        command.datasets,
    )
    checkpoint = open_checkpoint(command.source, labels=command.labels, revision=command.revision)
    if command.license is None:
        console.print("the card states no licence; name one with --license, such as apache-2.0")
    place = push(
        checkpoint,
        publication,
        private=command.private,
        overwrite=command.overwrite,
        dry_run=command.dry_run,
    )
    said = "would be uploaded" if command.dry_run is not None else "is on the hub"
    terminal(errors=False).print(f"{command.repository} {said}: {place}")
    return 0
