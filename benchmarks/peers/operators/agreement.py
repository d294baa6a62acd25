"""The differences between operators: their results and gradients."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from measuring.records import OURS

TOLERANCE = 1e-4  # in float32, relative to the largest number
RESULTS: Sequence[str] = (
    "result",
    "gradient of values",
    "gradient of locations",
    "gradient of weights",
)


def relative_difference(one: np.ndarray, other: np.ndarray) -> float:
    """Returns the largest difference, relative to the largest number."""
    return float(abs(one - other).max() / abs(other).max())


def compare(sides: Mapping[str, Any], dtype: str) -> dict[str, dict[str, float]]:
    """Returns how far results and gradients are apart, in float32 and because of another dtype.

    Raises:
        SystemExit: these aren't the same function.
    """
    exact = {name: side.fetch(side.both("float32")()) for name, side in sides.items()}
    found = {
        f"from {peer}": dict(
            zip(RESULTS, map(relative_difference, exact[OURS], theirs), strict=True)
        )
        for peer, theirs in exact.items()
        if peer != OURS
    }
    for peer, differences in found.items():
        for name, difference in differences.items():
            if not difference <= TOLERANCE:
                raise SystemExit(f"the {name} differs by {difference:.1e} {peer}")
    if dtype != "float32":
        for name, side in sides.items():
            rounded = map(relative_difference, side.fetch(side.both(dtype)()), exact[name])
            found[f"{name}, {dtype} from float32"] = dict(zip(RESULTS, rounded, strict=True))
    return found
