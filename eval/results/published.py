"""The authors' scores of a published model, beside measured ones."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Published:
    """What the authors published of a model.

    Attributes:
        model: the published model's name; None if the model isn't a published one.
        scores: the authors' scores in percent, by the names of `headline_scores`; empty where
            measured ones can't be compared with them.
        problem: why they can't; empty if they can, or if nothing was published.
    """

    model: str | None = None
    scores: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""

    def to_dict(self, measured: Mapping[str, float]) -> dict[str, Any]:
        """Returns plain JSON values, with the differences of measured scores from the authors'."""
        return {
            "model": self.model,
            "scores": dict(self.scores),
            "differences": {name: measured[name] - x for name, x in self.scores.items()},
            "problem": self.problem,
        }
