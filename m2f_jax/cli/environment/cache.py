"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns the folder for files that save time; None if the user can't have one.

    That is so without a home folder, as in many containers, or where it can't be written to.
    XDG_CACHE_HOME names another place.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not home.is_absolute():  # ~ is unknown
        return None
    folder = home / "m2f-jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def programs_folder() -> Path | None:
    """Returns the folder for programs that XLA hasn't compiled yet, within JAX's of those it has.

    None where JAX keeps nothing, or elsewhere than on a disk.
    """
    compiled = os.environ.get("JAX_COMPILATION_CACHE_DIR", "")
    return Path(compiled, "programs") if compiled and "://" not in compiled else None
