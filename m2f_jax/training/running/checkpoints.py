"""Checkpoints from which an interrupted training run resumes, written by Orbax."""

import contextlib
import dataclasses
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from m2f_jax.modeling.parameters import check_finite
from m2f_jax.training.state import TrainState

KEPT = 2  # checkpoints; the older serves if the newer is damaged
ARRAYS = ("step", "parameters", "optimizer", "average", "skipped")


def arrays_of(state: TrainState) -> dict[str, Any]:
    """Returns the arrays of a state by name."""
    return {name: getattr(state, name) for name in ARRAYS}


class Checkpoints:
    """The checkpoints in a folder; written in the background, each complete or absent."""

    def __init__(self, folder: str | os.PathLike):
        """Opens a folder, which may be new.

        Raises:
            ValueError: what a checkpoint says of itself is damaged.
        """
        self.folder = Path(folder).absolute()
        keep: Any = ocp.training.preservation_policies.LatestN(KEPT)
        try:
            self.checkpointer = ocp.training.Checkpointer(
                str(self.folder), preservation_policy=keep, cleanup_tmp_directories=True
            )
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"a checkpoint in {self.folder} is damaged ({reason(error)}); remove it to go "
                "on from the one before"
            ) from error

    @property
    def latest(self) -> int | None:
        """The step of the last complete checkpoint; None if there is none."""
        latest = self.checkpointer.latest
        return None if latest is None else latest.step

    def save(self, state: TrainState, data: bytes):
        """Waits for the save before, then starts to write a state and the place in the data.

        Raises:
            OSError: the save before failed, as on a full disk.
        """
        metadata = {"data": json.loads(data)}
        with self.writing():
            self.checkpointer.wait()
            self.checkpointer.save_async(
                int(state.step), arrays_of(state), force=True, custom_metadata=metadata
            )

    def restore(self, state: TrainState) -> tuple[TrainState, bytes]:
        """Returns the last state, sharded as the given one, and the place in the data.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: the checkpoint can't be read, is of another model or optimizer, or has
                numbers that aren't finite.
        """
        step = self.latest
        if step is None:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint")
        place = f"the checkpoint {self.folder / str(step)}"
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arrays_of(state)
        )
        try:
            arrays = self.checkpointer.load(step, abstract)
            metadata: Any = self.checkpointer.metadata(step).custom_metadata
            data = json.dumps(metadata["data"]).encode()
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise ValueError(
                f"{place} is damaged, or of another model; remove it to go on from the one before"
            ) from error
        if (there := int(arrays["step"])) != step:
            raise ValueError(f"{place} is that of step {there}; give it its own name, or remove it")
        for path, values in jax.tree_util.tree_leaves_with_path(arrays):
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            check_finite(name, values, place)
        return dataclasses.replace(state, **arrays), data

    def close(self):
        """Waits until everything is written.

        Raises:
            OSError: it couldn't be written.
        """
        with self.writing():
            self.checkpointer.close()

    @contextlib.contextmanager
    def writing(self) -> Iterator[None]:
        """Turns errors of writing a checkpoint into one line that says what to do."""
        try:
            yield
        except (ValueError, OSError, RuntimeError) as error:
            raise OSError(
                f"a checkpoint can't be written into {self.folder}: {reason(error)}; mend this, "
                f"and run the same command again to go on after step {self.latest or 0}"
            ) from error


def not_of_orbax(record: logging.LogRecord) -> bool:
    """Returns whether a log record is of anything but Orbax and its tasks."""
    return "/orbax/" not in f"{record.pathname} {record.getMessage()}"


def hear_no_tasks(shown: Callable[[Any], Any]) -> Callable[[Any], None]:
    """Returns a hook that shows uncatchable errors, except those of tasks left behind."""

    def hook(error: Any):
        if "Event loop is closed" not in str(error.exc_value):
            shown(error)

    return hook


# Orbax raises an error once, but logs it in all its threads, and its other tasks complain later: a
# thousand lines for a full disk or a damaged file.
for logger in ("absl", "asyncio"):
    logging.getLogger(logger).addFilter(not_of_orbax)
sys.unraisablehook = hear_no_tasks(sys.unraisablehook)
warnings.filterwarnings("ignore", r"coroutine 'Store\.", RuntimeWarning)


def reason(error: Exception) -> str:
    """Returns an error of Orbax as one line: the operating system's words if the error is its."""
    code = re.search(r"os_error_code='?(\d+)", str(error))
    if code is not None:
        return os.strerror(int(code[1]))
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def check_space(folder: Path, state: TrainState):
    """Checks that the folder is writable and has room for the checkpoints.

    Raises:
        OSError: the folder can't be written to, or there isn't enough room.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder):
        pass
    size = sum(x.nbytes for x in jax.tree.leaves(arrays_of(state)))
    needed, free = (KEPT + 2) * size, shutil.disk_usage(folder).free
    if free < needed:
        raise OSError(
            f"{folder} has {free / 2**20:,.1f} MiB left, and this training run keeps up to "
            f"{needed / 2**20:,.1f} MiB there; make room or choose another --out"
        )
