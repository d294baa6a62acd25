"""Checkpoints from which an interrupted training run resumes, written by Orbax."""

import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import jax
from orbax.checkpoint import v1 as ocp

from m2f_jax.training.state import TrainState

KEPT = 2  # checkpoints; the older serves if the newer is damaged
ARRAYS = ("step", "parameters", "optimizer", "average", "skipped")


def arrays_of(state: TrainState) -> dict[str, Any]:
    """Returns the arrays of a state by name."""
    return {name: getattr(state, name) for name in ARRAYS}


class Checkpoints:
    """The checkpoints in a folder; written in the background, each complete or absent."""

    def __init__(self, folder: str | os.PathLike):
        self.folder = Path(folder).absolute()
        keep: Any = ocp.training.preservation_policies.LatestN(KEPT)
        self.checkpointer = ocp.training.Checkpointer(
            str(self.folder), preservation_policy=keep, cleanup_tmp_directories=True
        )

    @property
    def latest(self) -> int | None:
        """The step of the last complete checkpoint; None if there is none."""
        latest = self.checkpointer.latest
        return None if latest is None else latest.step

    def save(self, state: TrainState, data: bytes):
        """Starts to write a state and the place in the data; waits for the one before."""
        self.checkpointer.wait()
        metadata = {"data": json.loads(data)}
        self.checkpointer.save_async(
            int(state.step), arrays_of(state), force=True, custom_metadata=metadata
        )

    def restore(self, state: TrainState) -> tuple[TrainState, bytes]:
        """Returns the last state, sharded as the given one, and the place in the data.

        Raises:
            FileNotFoundError: there is no checkpoint.
            ValueError: the checkpoint can't be read, or is of another model or optimizer.
        """
        step = self.latest
        if step is None:
            raise FileNotFoundError(f"{self.folder} holds no checkpoint")
        abstract = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), arrays_of(state)
        )
        try:
            arrays = self.checkpointer.load(step, abstract)
            metadata: Any = self.checkpointer.metadata(step).custom_metadata
        except (ValueError, KeyError, OSError) as error:
            raise ValueError(
                f"the checkpoint {self.folder / str(step)} doesn't fit this training or is damaged "
                f"({error}); remove it to go on from the one before"
            ) from error
        return dataclasses.replace(state, **arrays), json.dumps(metadata["data"]).encode()

    def close(self):
        """Waits until everything is written."""
        self.checkpointer.close()


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
            f"{folder} has {free / 2**30:.1f} GiB left, and this training keeps up to "
            f"{needed / 2**30:.1f} GiB there; make room or choose another --out"
        )
