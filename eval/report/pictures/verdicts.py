"""What became of each prediction and each object of one image, in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...analysis.errors import Error, kinds
from ...analysis.matching.judged import Judged
from ..sections.errors import KINDS, style_of

RIGHT, IGNORED = "right", "ignored"
FOUND, MISSED = "found", "missed"

# Of each verdict: its words and its letter. Missed objects and right predictions are on two sides.
VERDICTS = {
    FOUND: ("found", ""),
    MISSED: ("missed", "M"),
    RIGHT: ("right", ""),
    **{style_of(error): KINDS[error][:2] for error in Error if error != Error.MISSED},
    IGNORED: ("not judged", "N"),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class Verdicts:
    """The verdicts of an image, by their names in `VERDICTS` and in the style sheet.

    Attributes:
        truth: "found" or "missed", of each object.
        found: "right", "ignored" or the name of an `Error`, of each prediction.
    """

    truth: Sequence[str]
    found: Sequence[str]


def verdicts_of(judged: Judged) -> Verdicts:
    """Returns what is right among matched predictions and objects, and what is wrong else."""
    kind, _ = kinds(judged)
    found = np.isin(np.arange(len(judged.object_class)), judged.matched)
    return Verdicts(
        truth=[FOUND if is_found else MISSED for is_found in found.tolist()],
        found=[
            RIGHT if match >= 0 else IGNORED if is_ignored else style_of(Error(number))
            for match, is_ignored, number in zip(
                judged.matched.tolist(), judged.ignored.tolist(), kind.tolist(), strict=True
            )
        ],
    )
