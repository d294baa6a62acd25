"""The tensors of a checkpoint's file, under the names and in the shapes of our parameters."""

import dataclasses
import functools
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from m2f_jax.modeling.parameters import check_finite

from .files.formats import StoredTensor, open_tensors
from .tables.rules import Rule, Shape, differences, load, respell
from .tables.wrappers import unwrap

logger = logging.getLogger("m2f_jax")


def open_unwrapped(path: Path) -> dict[str, StoredTensor]:
    """Opens the tensors of a file, without the prefixes that training programs put before names.

    Reading one raises a ValueError if a number isn't finite.

    Raises:
        ValueError: the file is damaged, or holds several models or two tensors of one name.
    """
    tensors = open_tensors(path)
    try:
        names, removed = unwrap(tensors)
    except ValueError as error:
        raise ValueError(
            f"{path} {error}; save the one that you want, where it was made: "
            "torch.save(model.state_dict(), 'weights.pth')"
        ) from error
    if removed and removed != ["module."]:
        logger.warning(
            "%s: the names of its tensors have %s before them, and are read without",
            path,
            " and ".join(map(repr, removed)),
        )
    result: dict[str, StoredTensor] = {}
    for plain, (name, tensor) in zip(names, tensors.items(), strict=True):
        if plain in result:
            raise ValueError(f"{path} holds {plain} twice, once as {name}")
        read = functools.partial(_read_finite, name, tensor, path)
        result[plain] = dataclasses.replace(tensor, read=read)
    return result


def _read_finite(name: str, tensor: StoredTensor, path: Path) -> np.ndarray:
    array = tensor.read()
    check_finite(name, array, path)
    return array


def respell_all(
    tensors: Mapping[str, StoredTensor], spellings: Sequence[tuple[str, str]], path: Path
) -> dict[str, StoredTensor]:
    """Returns the tensors under their standard names.

    Args:
        tensors: by the names in the file.
        spellings: as of a `Table`.
        path: the file, for messages.

    Raises:
        ValueError: two of them have the same standard name.
    """
    result: dict[str, StoredTensor] = {}
    for original, tensor in tensors.items():
        name = respell(original, spellings)
        if name in result:
            raise ValueError(f"{path} holds {name} twice, once as {original}")
        result[name] = tensor
    return result


def as_parameters(
    source: Mapping[str, StoredTensor],
    rules: Sequence[Rule],
    target: Mapping[str, Shape],
    unfit: str,
    unused: Iterable[str] = (),
) -> dict[str, StoredTensor]:
    """Returns a checkpoint's tensors as our parameters; reading one reads and rearranges theirs.

    Args:
        source: the checkpoint's tensors, by their standard names.
        rules: the expanded rules of the model.
        target: the shapes of its parameters.
        unfit: the beginning of the error message.
        unused: patterns of tensors that a checkpoint may hold and the model doesn't need.

    Raises:
        ValueError: they aren't the tensors of such a model; the message lists the differences.
    """
    if problems := differences(rules, source, target, unused):
        raise ValueError(f"{unfit}:\n  " + "\n  ".join(problems))
    tensors: dict[str, StoredTensor] = {}
    for rule in rules:
        tensors |= load(rule, source, target)
    return tensors
