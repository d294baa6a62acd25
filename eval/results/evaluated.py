"""The outcome of an evaluation, and its files."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from m2f_jax.config import Task
from m2f_jax.files import write_json

from ..analysis.analysis import Analysis
from ..analysis.boundary import BoundaryMeasure
from ..analysis.finished import RESULTS, write_analysis
from .provenance import provenance
from .published import Published


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """The outcome of an evaluation.

    Attributes:
        task: what was evaluated.
        scores: the headline numbers in percent: "AP", "AP50", "AP75", "PQ", "mIoU", and those of
            `boundary`.
        published: the authors' scores of this model.
        images: how many were evaluated.
        settings: what was evaluated and how.
        result: all numbers, as the metric returns them.
        analysis: what lies behind them; None unless results are kept in a folder.
        boundary: the boundary measure; None unless it was asked for.
        provenance: the version, the date and the command.
    """

    task: Task
    scores: Mapping[str, float]
    published: Published
    images: int
    settings: Mapping[str, Any]
    result: Any
    analysis: Analysis | None = None
    boundary: BoundaryMeasure | None = None
    provenance: Mapping[str, str] = field(default_factory=provenance)

    def write(self, folder: Path):
        """Writes results.json, and the analysis beside it."""
        if self.analysis is not None:
            write_analysis(folder, self.analysis)
        self.save(folder / RESULTS)

    def save(self, path: Path):
        """Writes them as JSON, with all the numbers that the official script writes."""
        values = {
            "task": self.task,
            "scores": dict(self.scores),
            "published": self.published.to_dict(self.scores),
            "images": self.images,
            "settings": dict(self.settings),
            "provenance": dict(self.provenance),
            "official": self.result.to_json(),
            **({} if self.boundary is None else {"boundary": self.boundary.to_json()}),
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, values)
