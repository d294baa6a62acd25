"""A class of a data set."""

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Label:
    """One class: the data set's own id, its name, and whether it is a thing or stuff."""

    id: int
    name: str
    is_thing: bool


def things(labels: Iterable[Label]) -> tuple[Label, ...]:
    """Returns the countable classes, in order: those that an instance model predicts."""
    return tuple(label for label in labels if label.is_thing)


def numbered(num_classes: int) -> tuple[Label, ...]:
    """Returns stand-ins for unnamed classes: things called "class 0", "class 1" and so on.

    Their ids start at 1, because 0 is unlabelled in most data sets.
    """
    return tuple(Label(id=k + 1, name=f"class {k}", is_thing=True) for k in range(num_classes))
