"""The classes of the data sets that published models were trained on."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Label:
    """One class: the data set's own id, its name, and whether it is a thing or stuff."""

    id: int
    name: str
    is_thing: bool
