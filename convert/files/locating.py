"""Where a checkpoint is: in the package, on disk, or on the Hugging Face hub."""

import os
from importlib.resources import files
from pathlib import Path

from .folder import CONFIG_FILE

BUILT_IN = ("streets",)  # names of models in the package, each in the folder of that name


def locate(
    source: str | os.PathLike, revision: str | None = None, token: str | bool | None = None
) -> Path:
    """Returns the folder or file of `source`, fetched from the hub if it is an id.

    Names in `BUILT_IN` are models in the package; for a folder of such a name write ./name.

    Raises:
        FileNotFoundError: neither a path nor a reachable repository.
    """
    if source in BUILT_IN:
        return Path(str(files("m2f_jax") / str(source) / "model"))
    if os.path.exists(source):
        return Path(source)
    from .hub import download, is_repository  # their HTTP client takes 0.2 s to import

    if not is_repository(str(source)):
        raise FileNotFoundError(
            f"{source} is missing; expected a folder with {CONFIG_FILE}, a .pkl file, or a "
            "Hugging Face id such as facebook/mask2former-swin-large-cityscapes-instance"
        )
    return download(str(source), revision, token)
