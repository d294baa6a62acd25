"""The folder that a repository will hold."""

from pathlib import Path

from m2f_jax.convert import Checkpoint, save_checkpoint
from m2f_jax.convert.writing import save_huggingface
from m2f_jax.files import write_json
from m2f_jax.publishing.card import TRANSFORMERS, Publication, model_card

CARD_FILE = "README.md"
RUN_FILE = "train.json"


def write_folder(checkpoint: Checkpoint, publication: Publication, folder: Path) -> list[Path]:
    """Writes the model in its formats, the card and the recipe into a new or empty folder.

    Returns:
        The files, relative to the folder.

    Raises:
        FileExistsError: something is in the folder.
        ValueError: transformers' configuration can't express the model.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(f"{folder} isn't empty; name a new folder")
    if publication.format != "m2f_jax":
        try:
            whole = publication.format == "huggingface"
            save_huggingface(checkpoint, folder if whole else folder / TRANSFORMERS)
        except ValueError as error:
            raise ValueError(f"{error}; publish it in the format m2f_jax") from error
    if publication.format != "huggingface":
        save_checkpoint(checkpoint, folder)
    if publication.run is not None:
        write_json(folder / RUN_FILE, publication.run.values)
    card = model_card(publication, checkpoint.config, checkpoint.processor)
    (folder / CARD_FILE).write_text(str(card), encoding="utf-8")
    return sorted(x.relative_to(folder) for x in folder.rglob("*") if x.is_file())
