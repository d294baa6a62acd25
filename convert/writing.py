"""Writes an open checkpoint: as a folder of ours, or as one that transformers loads."""

import json
import os
from pathlib import Path
from typing import Literal

import numpy as np

from m2f_jax.config import Task
from m2f_jax.model import parameter_shapes
from m2f_jax.processor import PROCESSOR_FILE

from . import huggingface
from .checkpoint import Checkpoint, apply, open_checkpoint
from .formats import StoredTensor, write_safetensors
from .hub import CONFIG_FILE, WEIGHTS_FILE
from .rules import expand

Format = Literal["m2f_jax", "huggingface"]


def convert(
    source: str | os.PathLike,
    folder: str | os.PathLike,
    to: Format = "m2f_jax",
    *,
    task: Task | None = None,
    num_heads: int | None = None,
    revision: str | None = None,
    token: str | bool | None = None,
    overwrite: bool = False,
) -> Checkpoint:
    """Converts a checkpoint of any known kind; tensors are read, rearranged and written in turn.

    Args:
        source: as for `open_checkpoint`.
        folder: where to; made if it isn't there.
        to: "m2f_jax" for `from_pretrained` here, "huggingface" for transformers.
        task: as for `open_checkpoint`.
        num_heads: as for `open_checkpoint`.
        revision: as for `open_checkpoint`.
        token: as for `open_checkpoint`.
        overwrite: replace a model that is there already.

    Returns:
        The opened source.

    Raises:
        FileExistsError: `folder` holds a model.
        FileNotFoundError: there is no `source`.
        ValueError: the source is damaged, isn't a Mask2Former on Swin, or can't be expressed in
            the other format.
    """
    folder = Path(folder)
    if not overwrite and (folder / CONFIG_FILE).exists():
        raise FileExistsError(
            f"{folder} holds a model already; name another folder, or overwrite it on purpose"
        )
    checkpoint = open_checkpoint(
        source, revision=revision, token=token, task=task, num_heads=num_heads
    )
    if to == "m2f_jax":
        save_checkpoint(checkpoint, folder, keep_processor=False)
    elif to == "huggingface":
        save_huggingface(checkpoint, folder)
    else:
        raise ValueError(f'to is "m2f_jax" or "huggingface", not {to!r}')
    return checkpoint


def save_checkpoint(checkpoint: Checkpoint, folder: Path, *, keep_processor: bool = True):
    """Writes a folder that `from_pretrained` takes; a processor already there may be kept."""
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / WEIGHTS_FILE, checkpoint.tensors, {"format": "m2f_jax"})
    checkpoint.config.save(folder / CONFIG_FILE)
    if not (keep_processor and (folder / PROCESSOR_FILE).exists()):
        checkpoint.processor.save_pretrained(folder)


def save_huggingface(checkpoint: Checkpoint, folder: Path):
    """Writes a folder that transformers' `from_pretrained` takes.

    Raises:
        ValueError: transformers' configuration can't express the architecture.
    """
    config = huggingface.config_to_huggingface(checkpoint.config)
    rules = expand(huggingface.RULES, parameter_shapes(checkpoint.config))
    tensors: dict[str, StoredTensor] = {}
    for rule in rules:
        inputs = tuple(checkpoint.tensors[name] for name in rule.ours)
        zeros = tuple(np.broadcast_to(np.float32(0), tensor.shape) for tensor in inputs)
        outputs = zip(rule.theirs, rule.layout.save(zeros), strict=True)
        shapes = {name: array.shape for name, array in outputs}
        tensors |= apply(rule.layout.save, rule.ours, rule.theirs, checkpoint.tensors, shapes)
    for name, array in huggingface.extra_tensors(checkpoint.config).items():
        tensors[name] = StoredTensor.of(array)
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / WEIGHTS_FILE, tensors, {"format": "pt"})
    (folder / CONFIG_FILE).write_text(json.dumps(config, indent=2) + "\n")
    processor = huggingface.processor_to_huggingface(checkpoint.processor)
    (folder / PROCESSOR_FILE).write_text(json.dumps(processor, indent=2) + "\n")
