"""The rules of conversion: which of their tensors become which of ours, and in what layout.

"Theirs" are the tensors of a checkpoint by the authors or Hugging Face, "ours" the parameters of a
model of this package. A rule works in both directions, so the same table loads a checkpoint and
writes one. A table is total: every tensor of the source is claimed or listed as unused, every
parameter is filled once.
"""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from ..files.formats import StoredTensor

Arrays = tuple[np.ndarray, ...]
Shape = tuple[int, ...]

LISTED = 10  # the most differences of a kind that a message lists


class Layout(NamedTuple):
    """The two functions that rearrange a rule's tensors: theirs to ours, and ours to theirs."""

    load: Callable[[Arrays], Arrays]
    save: Callable[[Arrays], Arrays]


class Rule(NamedTuple):
    """Tensors of theirs and of ours that hold the same numbers.

    Attributes:
        theirs: names, with `{}` for layer numbers.
        ours: names, with the same layer numbers in the same order.
        layout: how the arrays are rearranged.
    """

    theirs: tuple[str, ...]
    ours: tuple[str, ...]
    layout: Layout


class Table(NamedTuple):
    """How one origin names the tensors of a part, or of a whole model.

    Attributes:
        rules: their names and ours.
        unused: patterns of tensors that a file may hold and the model doesn't need.
        spellings: pairs of a pattern of the beginning of a variant name and its replacement, which
            gives the standard name.
    """

    rules: tuple[Rule, ...]
    unused: tuple[str, ...] = ()
    spellings: tuple[tuple[str, str], ...] = ()


def placed(table: Table, theirs: str, ours: str) -> Table:
    """Returns a part's table with prefixes before its names.

    A name of theirs that begins with "/" is a whole name already, and gets no prefix.
    """

    def in_place(name: str, prefix: str) -> str:
        return name[1:] if name.startswith("/") else prefix + name

    pattern = re.escape(theirs)
    return Table(
        tuple(
            Rule(
                tuple(in_place(name, theirs) for name in rule.theirs),
                tuple(ours + name for name in rule.ours),
                rule.layout,
            )
            for rule in table.rules
        ),
        tuple(in_place(name, pattern) for name in table.unused),
        tuple((in_place(name, pattern), theirs + right) for name, right in table.spellings),
    )


def joined(tables: Iterable[Table]) -> Table:
    """Joins several tables into one."""
    tables = list(tables)
    return Table(
        tuple(rule for table in tables for rule in table.rules),
        tuple(pattern for table in tables for pattern in table.unused),
        tuple(spelling for table in tables for spelling in table.spellings),
    )


def respell(name: str, spellings: Iterable[tuple[str, str]]) -> str:
    """Returns the standard name of a tensor; the spellings are applied in turn."""
    for pattern, replacement in spellings:
        name = re.sub(f"^{pattern}", replacement, name)
    return name


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
    """Returns the layout of a convolution in patches, here a linear layer on flattened patches."""
    return Layout(
        _each(lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0])),
        _each(lambda x: x.reshape(patch_size, patch_size, -1, x.shape[1]).transpose(3, 2, 0, 1)),
    )


def tensor(theirs: str, ours: str) -> tuple[Rule]:
    """Returns the rule of one tensor with the same layout on both sides."""
    return (Rule((theirs,), (ours,), SAME),)


def linear(theirs: str, ours: str, layout: Layout = TRANSPOSED) -> tuple[Rule, Rule]:
    """Returns the rules of a linear layer's or convolution's weight and bias."""
    return (
        Rule((f"{theirs}.weight",), (f"{ours}.kernel",), layout),
        Rule((f"{theirs}.bias",), (f"{ours}.bias",), SAME),
    )


def kernel(theirs: str, ours: str, layout: Layout = TRANSPOSED) -> tuple[Rule]:
    """Returns the rule of a linear layer or convolution without bias."""
    return (Rule((f"{theirs}.weight",), (f"{ours}.kernel",), layout),)


def norm(theirs: str, ours: str) -> tuple[Rule, Rule]:
    """Returns the rules of a LayerNorm or GroupNorm."""
    return (
        Rule((f"{theirs}.weight",), (f"{ours}.scale",), SAME),
        Rule((f"{theirs}.bias",), (f"{ours}.bias",), SAME),
    )


def frozen_norm(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Returns the rules of a batch normalization with its statistics."""
    return (
        *norm(theirs, ours),
        *(
            Rule((f"{theirs}.running_{name}",), (f"{ours}.{ours_name}",), SAME)
            for name, ours_name in (("mean", "mean"), ("var", "variance"))
        ),
    )


def fused_attention(theirs: str, ours: str) -> tuple[Rule, ...]:
    """Returns the rules of a torch.nn.MultiheadAttention's `in_proj`, here three projections."""
    parts = [f"{ours}.{part}" for part in ("query", "key", "value")]
    return (
        Rule((f"{theirs}.in_proj_weight",), tuple(f"{p}.kernel" for p in parts), FUSED_KERNELS),
        Rule((f"{theirs}.in_proj_bias",), tuple(f"{p}.bias" for p in parts), FUSED_BIASES),
    )


def fused_here(theirs: Sequence[str], ours: str) -> tuple[Rule, ...]:
    """Returns the rules of three projections of theirs that are one here."""
    return (
        Rule(tuple(f"{part}.weight" for part in theirs), (f"{ours}.kernel",), APART_KERNELS),
        Rule(tuple(f"{part}.bias" for part in theirs), (f"{ours}.bias",), APART_BIASES),
    )


def expand(rules: Iterable[Rule], parameters: Iterable[str]) -> list[Rule]:
    """Returns the rules with layer numbers filled in, for a model with these parameters.

    Raises:
        KeyError: the table is wrong: a parameter is filled by no rule or by two, or one of their
            tensors is read by two.
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
    filled = Counter(name for rule in expanded for name in rule.ours)
    read = Counter(name for rule in expanded for name in rule.theirs)
    wrong = {name for name, times in (*filled.items(), *read.items()) if times > 1}
    wrong |= filled.keys() ^ set(names)
    if wrong:
        raise KeyError(f"the table doesn't name these exactly once: {', '.join(sorted(wrong))}")
    return expanded


def saved_shapes(rule: Rule, ours: Mapping[str, Shape]) -> dict[str, Shape]:
    """Returns the shapes of a rule's tensors on their side, given those on ours."""
    inputs = tuple(np.broadcast_to(np.int8(0), ours[name]) for name in rule.ours)
    outputs = zip(rule.theirs, rule.layout.save(inputs), strict=True)
    return {name: array.shape for name, array in outputs}


def differences(
    rules: Iterable[Rule],
    source: Mapping[str, StoredTensor],
    target: Mapping[str, Shape],
    unused: Iterable[str] = (),
) -> list[str]:
    """Returns why a checkpoint can't fill a model, as lines of a message; empty if it can.

    No tensor is read.

    Args:
        rules: expanded for the model.
        source: the checkpoint's tensors.
        target: the shapes of the model's parameters.
        unused: patterns of tensors that a checkpoint may hold and the model doesn't need.
    """
    needed: dict[str, Shape] = {}
    for rule in rules:
        needed |= saved_shapes(rule, target)
    known = re.compile("|".join(unused) or r"(?!)")
    found = {name: source[name] for name in needed if name in source}
    return [
        *_listed(f"missing: {name}" for name in needed if name not in source),
        *_listed(
            f"unexpected: {name} {list(tensor.shape)}"
            for name, tensor in source.items()
            if name not in needed and not known.fullmatch(name)
        ),
        *_listed(
            f"shape: {name} is {list(tensor.shape)}, the model needs {list(needed[name])}"
            for name, tensor in found.items()
            if tensor.shape != needed[name]
        ),
        *_listed(
            f"numbers: {name} is {tensor.dtype}, the model needs floats"
            for name, tensor in found.items()
            if tensor.dtype.kind in "biu"
        ),
    ]


def _listed(problems: Iterable[str]) -> list[str]:
    """Returns the first problems of a kind, as another model's checkpoint may have a thousand."""
    problems = list(problems)
    kind = problems[0].partition(":")[0] if problems else ""
    first = [f"{problem:.300}" for problem in problems[:LISTED]]
    return first + [f"{kind}: at least {len(problems) - LISTED} more"] * (len(problems) > LISTED)


def load(
    rule: Rule, theirs: Mapping[str, StoredTensor], shapes: Mapping[str, Shape]
) -> dict[str, StoredTensor]:
    """Returns our tensors of one rule; reading one reads and rearranges theirs."""
    inputs = [theirs[name] for name in rule.theirs]
    return _rearranged(rule.layout.load, inputs, {name: shapes[name] for name in rule.ours})


def save(rule: Rule, ours: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Returns their tensors of one rule; reading one reads and rearranges ours."""
    inputs = {name: ours[name] for name in rule.ours}
    shapes = saved_shapes(rule, {name: tensor.shape for name, tensor in inputs.items()})
    return _rearranged(rule.layout.save, list(inputs.values()), shapes)


def _rearranged(
    layout: Callable[[Arrays], Arrays], inputs: Sequence[StoredTensor], shapes: Mapping[str, Shape]
) -> dict[str, StoredTensor]:
    dtypes = {tensor.dtype for tensor in inputs}
    dtype = dtypes.pop() if len(dtypes) == 1 else np.dtype(np.float32)
    return {
        name: StoredTensor(shape, dtype, functools.partial(_read, layout, inputs, dtype, i))
        for i, (name, shape) in enumerate(shapes.items())
    }


def _read(
    layout: Callable[[Arrays], Arrays], inputs: Sequence[StoredTensor], dtype: np.dtype, i: int
) -> np.ndarray:
    return layout(tuple(tensor.read().astype(dtype, copy=False) for tensor in inputs))[i]
