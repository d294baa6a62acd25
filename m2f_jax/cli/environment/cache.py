"""The user's cache folder."""

import os
from pathlib import Path


def cache_folder() -> Path | None:
    """Returns the folder in which commands may keep what saves time.

    None where there is none: the user has no home folder, as in many containers, or can't write to
    it. XDG_CACHE_HOME names another place.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    if not home.is_absolute():  # nobody knows where ~ is
        return None
    folder = home / "m2f-jax"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None
