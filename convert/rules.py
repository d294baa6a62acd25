"""The engine: a table of rules decides which of their tensors become which of ours, and how.

A rule is read in both directions, so the same table loads a checkpoint and writes one. It is total:
every tensor of the source is claimed or listed as known-unused, every parameter is filled once.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

Arrays = tuple[np.ndarray, ...]
Shape = tuple[int, ...]


class Layout(NamedTuple):
    """How a rule's tensors are laid out: theirs to ours, and ours to theirs."""

    load: Callable[[Arrays], Arrays]
    save: Callable[[Arrays], Arrays]


class Rule(NamedTuple):
    """Names with `{}` for layer numbers (the same numbers, in the same order, on both sides)."""

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    layout: Layout


def _each(function: Callable[[np.ndarray], np.ndarray]) -> Callable[[Arrays], Arrays]:
    return lambda arrays: tuple(function(array) for array in arrays)


SAME = Layout(_each(np.asarray), _each(np.asarray))
TRANSPOSED = Layout(_each(np.transpose), _each(np.transpose))
# PyTorch keeps convolutions as (out, in, height, width).
CONVOLUTION = Layout(
    _each(lambda x: x.transpose(2, 3, 1, 0)), _each(lambda x: x.transpose(3, 2, 0, 1))
)
POINTWISE = Layout(_each(lambda x: x[:, :, 0, 0].T), _each(lambda x: x.T[:, :, None, None]))
# q, k and v fused on their side and apart on ours, or the reverse; kernels and biases.
FUSED_KERNELS = Layout(
    lambda x: tuple(part.T for part in np.split(x[0], 3)),
    lambda x: (np.concatenate([part.T for part in x]),),
)
FUSED_BIASES = Layout(lambda x: tuple(np.split(x[0], 3)), lambda x: (np.concatenate(x),))
APART_KERNELS = Layout(
    lambda x: (np.concatenate([part.T for part in x], axis=1),),
    lambda x: tuple(part.T for part in np.split(x[0], 3, axis=1)),
)
APART_BIASES = Layout(FUSED_BIASES.save, FUSED_BIASES.load)


def patches(patch_size: int) -> Layout:
    """A convolution whose stride is its size, as a linear layer on flattened patches."""
    return Layout(
        _each(lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])),
        _each(lambda x: x.reshape(patch_size, patch_size, -1, x.shape[1]).transpose(3, 2, 0, 1)),
    )


def tensor(theirs: str, ours: str) -> tuple[Rule]:
    """One tensor that both sides keep alike."""
    return (Rule((theirs,), (ours,), SAME),)


def linear(theirs: str, ours: str, layout: Layout = TRANSPOSED) -> tuple[Rule, Rule]:
    """A linear layer's weight and bias."""
    return (
        Rule((f"{theirs}.weight",), (f"{ours}.kernel",), layout),
        Rule((f"{theirs}.bias",), (f"{ours}.bias",), SAME),
    )


def kernel(theirs: str, ours: str, layout: Layout = TRANSPOSED) -> tuple[Rule]:
    """A linear layer or convolution without bias."""
    return (Rule((f"{theirs}.weight",), (f"{ours}.kernel",), layout),)


def norm(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """A LayerNorm or GroupNorm."""
    return (
        Rule((f"{theirs}.weight",), (f"{ours}.scale",), SAME),
        Rule((f"{theirs}.bias",), (f"{ours}.bias",), SAME),
    )


def fused_attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Their `in_proj` of a torch.nn.MultiheadAttention, our three projections."""
    parts = [f"{ours}.{part}" for part in ("query", "key", "value")]
    return (
        Rule((f"{theirs}.in_proj_weight",), tuple(f"{p}.kernel" for p in parts), FUSED_KERNELS),
        Rule((f"{theirs}.in_proj_bias",), tuple(f"{p}.bias" for p in parts), FUSED_BIASES),
    )


def fused_here(theirs: Sequence[str], ours: str) -> tuple[Rule, ...]:
    """Their three projections, our single one."""
    return (
        Rule(tuple(f"{part}.weight" for part in theirs), (f"{ours}.kernel",), APART_KERNELS),
        Rule(tuple(f"{part}.bias" for part in theirs), (f"{ours}.bias",), APART_BIASES),
    )


def expand(rules: Iterable[Rule], parameters: Iterable[str]) -> list[Rule]:
    """The rules with layer numbers filled in, one for each group of `parameters`.

    Raises:
        KeyError: a parameter is the work of no rule or of two (a mistake in the table).
    """
    names = list(parameters)
    expanded = []
    for rule in rules:
        pattern = re.compile(re.escape(rule.ours[0]).replace(r"\{\}", r"(\d+)"))
        for name in names:
            if match := pattern.fullmatch(name):
                theirs = tuple(part.format(*match.groups()) for part in rule.theirs)
                ours = tuple(part.format(*match.groups()) for part in rule.ours)
                expanded.append(Rule(theirs, ours, rule.layout))
    claimed = [name for rule in expanded for name in rule.ours]
    if sorted(claimed) != sorted(names):
        wrong = sorted(set(names) ^ set(claimed)) or sorted(
            name for name in set(claimed) if claimed.count(name) > 1
        )
        raise KeyError(f"the table fills these parameters not exactly once: {', '.join(wrong)}")
    return expanded


def check(
    rules: Iterable[Rule],
    source: Mapping[str, Shape],
    target: Mapping[str, Shape],
    unused: Iterable[str] = (),
    *,
    where: str,
):
    """Compares what the expanded rules need with what the source has, both ways, before reading it.

    `unused` are patterns of tensors that a checkpoint may hold and the model doesn't need.

    Raises:
        ValueError: one message with every tensor that is missing, unexpected or of another shape.
    """
    needed = {name for rule in rules for name in rule.theirs}
    known = re.compile("|".join(unused) or r"(?!)")
    problems = [f"missing: {name}" for name in sorted(needed - set(source))]
    problems += [
        f"unexpected: {name} {list(source[name])}"
        for name in sorted(set(source) - needed)
        if not known.fullmatch(name)
    ]
    for rule in rules:
        if not set(rule.theirs) <= set(source):
            continue
        have = tuple(np.broadcast_to(np.float32(0), source[name]) for name in rule.theirs)
        want = tuple(np.broadcast_to(np.float32(0), target[name]) for name in rule.ours)
        for name, there, here in zip(rule.theirs, have, rule.layout.save(want), strict=True):
            if there.shape != here.shape:
                problems.append(
                    f"shape: {name} is {list(there.shape)}, the model needs {list(here.shape)}"
                )
    if problems:
        raise ValueError(
            f"{where} doesn't fit the model ({len(problems)} differences):\n  "
            + "\n  ".join(problems)
        )
