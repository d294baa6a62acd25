"""Writes an open checkpoint as a folder of ours, or as one that transformers loads."""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from m2f_jax.config import ModelConfig, Task
from m2f_jax.files import write_json
from m2f_jax.inference.processor import PROCESSOR_FILE
from m2f_jax.labels.choosing import Classes
from m2f_jax.modeling.parameters import parameter_shapes

from .files.folder import CONFIG_FILE, WEIGHTS_FILE
from .files.formats import write_safetensors
from .reading import Checkpoint, open_checkpoint
from .tables.huggingface import config as huggingface_config
from .tables.huggingface import tensors as huggingface
from .tables.rules import expand, respell, save

Format = Literal["m2f_jax", "huggingface"]
FILES = (CONFIG_FILE, WEIGHTS_FILE, PROCESSOR_FILE)


def convert(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    to: Format = "m2f_jax",
    *,
    task: Task | None = None,
    num_heads: int | None = None,
    labels: Classes | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    kind: type[ModelConfig] | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Converts a checkpoint of any known kind, one tensor after another.

    Args:
        source: as for `open_checkpoint`.
        folder: where to; made if it isn't there.
        to: "m2f_jax" for `from_pretrained` here, "huggingface" for transformers.
        task: as for `open_checkpoint`.
        num_heads: as for `open_checkpoint`.
        labels: as for `open_checkpoint`.
        revision: as for `open_checkpoint`.
        token: as for `open_checkpoint`.
        kind: as for `open_checkpoint`.
        overwrite: replace a model that is there already.

    Returns:
        The opened source; if `folder` is where it was, its tensors can't be read any more.

    Raises:
        FileExistsError: `folder` holds a model, or part of one.
        FileNotFoundError: there is no `source`.
        ValueError: the source is damaged, isn't a model, or can't be expressed in
            the other format.
    """
    if to not in get_args(Format):
        raise ValueError(f"to is one of {get_args(Format)}, not {to!r}")
    folder = Path(folder)
    there = [name for name in FILES if (folder / name).exists()]
    if there and not overwrite:
        raise FileExistsError(
            f"{folder} holds a model already ({', '.join(there)}); name another folder, or "
            "overwrite it on purpose"
        )
    checkpoint = open_checkpoint(
        source,
        revision=revision,
        token=token,
        task=task,
        num_heads=num_heads,
        labels=labels,
        kind=kind,
    )
    if to == "m2f_jax":
        save_checkpoint(checkpoint, folder, keep_processor=False)
    else:
        save_huggingface(checkpoint, folder)
    return checkpoint


def save_checkpoint(checkpoint: Checkpoint, folder: Path, *, keep_processor: bool = True):
    """Writes a folder that `from_pretrained` opens.

    Args:
        checkpoint: the opened checkpoint.
        folder: made if it isn't there.
        keep_processor: keep the processor's settings that are there already.
    """
    with _replaced_together(folder) as new:
        write_safetensors(new / WEIGHTS_FILE, checkpoint.tensors, {"format": "m2f_jax"})
        checkpoint.config.save(new / CONFIG_FILE)
        if not (keep_processor and (folder / PROCESSOR_FILE).exists()):
            checkpoint.processor.save_pretrained(new)


def save_huggingface(checkpoint: Checkpoint, folder: Path):
    """Writes a folder that transformers' `from_pretrained` opens.

    Raises:
        ValueError: transformers' configuration can't express the architecture.
    """
    dtypes = {tensor.dtype.name for tensor in checkpoint.tensors.values()}
    config = huggingface_config.config_to_huggingface(
        checkpoint.config, dtypes.pop() if len(dtypes) == 1 else "float32"
    )
    processor = huggingface_config.processor_to_huggingface(checkpoint.processor, checkpoint.config)
    tensors = huggingface.extra_tensors(checkpoint.config)
    for rule in expand(
        huggingface.table_of(checkpoint.config).rules, parameter_shapes(checkpoint.config)
    ):
        tensors |= save(rule, checkpoint.tensors)
    spellings = huggingface.spellings_of(checkpoint.config)
    tensors = {respell(name, spellings): tensor for name, tensor in tensors.items()}
    with _replaced_together(folder) as new:
        write_safetensors(new / WEIGHTS_FILE, tensors, {"format": "pt"})
        write_json(new / CONFIG_FILE, config)
        write_json(new / PROCESSOR_FILE, processor)


@contextlib.contextmanager
def _replaced_together(folder: Path) -> Iterator[Path]:
    """Yields a folder whose files replace those in `folder` once the `with` block has succeeded."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".new-", dir=folder) as new:
        yield Path(new)
        for file in Path(new).iterdir():
            file.replace(folder / file.name)
