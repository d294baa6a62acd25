"""Output folders that one run at a time writes into."""

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout


def only_run_in(out: Path, lock_file: str) -> contextlib.AbstractContextManager:
    """Locks an output folder until the context is left or the process ends.

    Args:
        out: an existing folder.
        lock_file: the name of the lock file in it: the command's and .lock, such as "train.lock".

    Raises:
        FileExistsError: another run has locked it.
    """
    try:
        return FileLock(out / lock_file).acquire(blocking=False)
    except Timeout:
        command = lock_file.removesuffix(".lock")
        raise FileExistsError(
            f"{out} is in use by another m2f {command}; wait for it or stop it, or name another "
            "--out"
        ) from None
