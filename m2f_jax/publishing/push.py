"""Publishes a model on the Hugging Face hub, or writes the folder that would be uploaded."""

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from m2f_jax.convert import Checkpoint
from m2f_jax.eval.running.model_digest import digest_of_segmenter
from m2f_jax.pretrained import Pretrained
from m2f_jax.publishing.card import Format, Publication
from m2f_jax.publishing.folder import write_folder
from m2f_jax.publishing.records import Measured, read_results, read_run
from m2f_jax.publishing.upload import check_repository, upload


def publication_of(
    repository: str,
    format: Format,
    results: Sequence[str | os.PathLike],
    recipe: str | os.PathLike | None,
    license: str | None,
    datasets: Sequence[str],
) -> Publication:
    """Reads what is said of a model.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is something else, or the repository's name can't be one.
    """
    check_repository(repository)
    return Publication(
        repository=repository,
        format=format,
        license=license,
        datasets=tuple(datasets),
        results=tuple(map(read_results, results)),
        run=None if recipe is None else read_run(recipe),
    )


def push(
    checkpoint: Checkpoint,
    publication: Publication,
    *,
    private: bool = False,
    overwrite: bool = False,
    token: str | bool | None = None,
    dry_run: str | os.PathLike | None = None,
) -> str:
    """Publishes an open checkpoint.

    Args:
        checkpoint: the model.
        publication: what is said of it, and the format.
        private: as for `upload`.
        overwrite: as for `upload`.
        token: as for `upload`.
        dry_run: a new or empty folder for what would be uploaded; nothing is uploaded then.

    Returns:
        The address of the commit, or the folder.

    Raises:
        FileExistsError: the repository holds a model, or the folder something.
        ValueError: scores are of another model, or the format can't express it.
        PermissionError, ConnectionError: as `upload`.
    """
    for measured in publication.results:
        check_same_model(checkpoint, measured)
    if dry_run is not None:
        write_folder(checkpoint, publication, Path(dry_run))
        return os.fspath(dry_run)
    with tempfile.TemporaryDirectory(prefix="m2f-push-") as folder:
        write_folder(checkpoint, publication, Path(folder))
        return upload(
            Path(folder), publication.repository, private=private, overwrite=overwrite, token=token
        )


def check_same_model(checkpoint: Checkpoint, measured: Measured):
    """Refuses the scores of another model, or of other settings of its images.

    Raises:
        ValueError: naming the scores.
    """
    own = checkpoint._replace(tensors=dict(checkpoint.tensors))  # opening uses them up
    if digest_of_segmenter(Pretrained(own, measured.dtype).segmenter) != measured.digest:
        scores = ", ".join(f"{name} {score:.1f}" for name, score in measured.scores.items())
        raise ValueError(
            f"{scores} on {measured.data} are the scores of other weights, classes or image "
            "settings than these; evaluate this model with m2f eval --out, and give its "
            "results.json"
        )
