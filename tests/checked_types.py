"""Types are checked while tests run, at a tenth of the time where they have no shapes.

pytest's option --jaxtyping-packages has every function decorated by `jaxtyping.jaxtyped`, which
keeps shapes by their names in each call. Functions that take and return no arrays need none of
that: they are checked by beartype alone.
"""

import dataclasses
import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any

import beartype
import jaxtyping

with_shapes = jaxtyping.jaxtyped
check = beartype.beartype(conf=beartype.BeartypeConf(violation_type=jaxtyping.TypeCheckError))


def jaxtyped(function: Any = None, *, typechecker: Callable) -> Any:
    """As `jaxtyping.jaxtyped`."""
    if function is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if isinstance(function, types.FunctionType) and not may_have_shapes(function):
        return check(function)
    if dataclasses.is_dataclass(function) and not may_have_shapes(function.__init__):
        function.__init__ = check(function.__init__)
        return function
    return with_shapes(function, typechecker=typechecker)


def may_have_shapes(function: Callable) -> bool:
    """Whether a type is one of jaxtyping's, or a name of one that isn't there yet."""
    if inspect.isgeneratorfunction(function) or getattr(function, "__no_type_check__", False):
        return True
    return any(map(has_shape, function.__annotations__.values()))


def has_shape(annotation: Any) -> bool:
    if isinstance(annotation, str | typing.ForwardRef | typing.TypeVar):
        return True
    if inspect.isclass(annotation) and issubclass(annotation, jaxtyping.AbstractArray):
        return True
    return any(map(has_shape, typing.get_args(annotation)))


jaxtyping.jaxtyped = jaxtyped
