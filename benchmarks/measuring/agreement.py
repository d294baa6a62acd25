"""The differences between two networks' outputs."""

from collections.abc import Sequence
from typing import Any

import numpy as np

MOST_FLIPPED = 1e-3  # of all mask pixels, if two networks are the same function in float32


def compare(ours: Sequence[Any], theirs: Sequence[Any], *, exact: bool) -> dict[str, float]:
    """Returns the differences of class and mask logits.

    Args:
        ours: our class and mask logits.
        theirs: the peer's.
        exact: whether both were computed in float32.

    Raises:
        SystemExit: both are exact, and too many mask pixels differ.
    """
    differences = [float(abs(np.asarray(a) - b).max()) for a, b in zip(ours, theirs, strict=True)]
    masks = np.asarray(ours[1])
    flipped = int(((masks >= 0) != (theirs[1] >= 0)).sum())
    if exact and flipped > MOST_FLIPPED * masks.size:
        raise SystemExit(f"the networks differ in {flipped} of {masks.size} mask pixels")
    return {
        "largest difference of class logits": differences[0],
        "largest difference of mask logits": differences[1],
        "mask pixels that flip": flipped,
        "mask pixels": masks.size,
    }
