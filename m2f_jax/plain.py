"""Dataclasses as plain JSON values and back; in JSON, `"type"` says which kind of part it is."""

import dataclasses
import types
import typing
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Literal

from m2f_jax.bounds import is_finite

TABLES: dict[Any, MutableMapping[str, Any]] = {}
"""For each annotation of a field that holds a part: the kinds of parts, by name.

The first entry is the default, for files that were written before there was a second."""


def type_of(part: Any) -> str | None:
    """Returns the name under which a part's config is registered; None for anything else."""
    types = (name for table in TABLES.values() for name in table if type(part) is table[name])
    return next(types, None)


def to_plain(value: Any) -> Any:
    """Returns a dataclass as plain JSON values, with the `"type"` of every part in it."""
    if isinstance(value, tuple):
        return [to_plain(x) for x in value]
    if not dataclasses.is_dataclass(value):
        return value
    name = type_of(value)
    fields = {x.name: to_plain(getattr(value, x.name)) for x in dataclasses.fields(value)}
    return fields if name is None else {"type": name, **fields}


def from_plain(kind: Any, value: Any, where: str) -> Any:
    """Turns plain JSON values into `kind`: a dataclass, a part, a tuple of one kind, or a scalar.

    Raises:
        ValueError: a value doesn't fit, or a part's type is unknown; the message names the field.
    """
    if kind in TABLES:
        return _part_from_plain(TABLES[kind], value, where)
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, Mapping):
            raise ValueError(f"{where} needs an object, not {value!r:.80}")
        hints = typing.get_type_hints(kind)
        required = {
            field.name
            for field in dataclasses.fields(kind)
            if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        }
        if unknown := sorted(set(value) - set(hints)):
            raise ValueError(f"{where} has no field {', '.join(unknown):.200}")
        if missing := sorted(required - set(value)):
            raise ValueError(f"{where} lacks the field {', '.join(missing)}")
        fields = {key: from_plain(hints[key], v, f"{where}.{key}") for key, v in value.items()}
        try:
            return typing.cast(type, kind)(**fields)
        except ValueError as error:  # of the class's own checks, which don't know the file
            raise ValueError(f"{where}: {error}") from error
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{where} needs a list, not {value!r:.80}")
        if Ellipsis not in arguments and len(value) != len(arguments):
            raise ValueError(f"{where} needs a list of {len(arguments)}, not {value!r:.80}")
        return tuple(from_plain(arguments[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if origin is types.UnionType:
        return _from_alternatives(arguments, value, where)
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            expected = ", ".join(arguments)
            raise ValueError(f"{where} has the value {value!r:.80}; expected one of {expected}")
        return value
    if kind is float and type(value) is int and is_finite(value):
        value = float(value)
    if kind in (int, float) and type(value) in (int, float) and not is_finite(value):
        raise ValueError(f"{where} has the value {value!r:.80}, which isn't a finite number")
    if type(value) is not kind:
        raise ValueError(f"{where} has the value {value!r:.80}; expected {kind.__name__}")
    return value


def _part_from_plain(table: Mapping[str, Any], value: Any, where: str) -> Any:
    """Returns the config of the part that the type names in `table`."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where} needs an object, not {value!r:.80}")
    fields = dict(with_type(value, table))
    name = fields.pop("type")
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"{where} has the type {name!r:.80}; known: {', '.join(table)}")
    return from_plain(table[name], fields, where)


def with_type(values: Mapping[str, Any], table: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the JSON of a part with its type, which files of version 0.1 lack.

    In those, a part with the field `conv_dim`, the width, is an FPN.
    """
    if "type" in values:
        return values
    if "fpn" in table and {"conv_dim"} <= set(values) <= {"conv_dim", "mask_dim"}:
        renamed = {"dim" if name == "conv_dim" else name: x for name, x in values.items()}
        return {"type": "fpn", **renamed}
    return {"type": next(iter(table)), **values}


def _from_alternatives(kinds: Sequence[Any], value: Any, where: str) -> Any:
    """Turns a value into one of several kinds: None, or the dataclass that has its fields."""
    if value is None and types.NoneType in kinds:
        return None
    kinds = [kind for kind in kinds if kind is not types.NoneType]
    if isinstance(value, Mapping):
        kinds.sort(key=lambda kind: not set(value) <= set(getattr(kind, "__annotations__", ())))
    return from_plain(kinds[0], value, where)
