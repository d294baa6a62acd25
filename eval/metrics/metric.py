"""What all metrics have in common."""

from pathlib import Path
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Metric(Protocol):
    """Counts over images, which can be merged and saved."""

    def merge(self, other: Any, /) -> None:
        """Adds another one's images."""

    def save(self, path: Path, /) -> None:
        """Writes one file, complete whenever it is there."""

    def result(self) -> Any:
        """Returns the numbers for all images."""
