"""Output folders that one run at a time writes into."""

import contextlib
from pathlib import Path

from filelock import FileLock, Timeout


def only_run_in(out: Path, lock_file: str) -> contextlib.AbstractContextManager:
    """Holds an output folder for this process, until it leaves the context or ends in any way.

    Args:
        out: the folder, which is there.
        lock_file: what holds it, such as "train.lock".

    Raises:
        FileExistsError: another run holds it.
    """
    try:
        return FileLock(out / lock_file).acquire(blocking=False)
    except Timeout:
        command = lock_file.removesuffix(".lock")
        raise FileExistsError(
            f"{out} is in use by another m2f {command}; wait for it or stop it, or name another "
            "--out"
        ) from None
