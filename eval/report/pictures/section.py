"""The section of a report's page that shows pictures."""

from collections.abc import Sequence

from markupsafe import Markup

from ...analysis.tallies.instances import SHOWN
from ..page import PARTS, section
from .picture import Picture
from .verdicts import VERDICTS


def picture_section(pictures: Sequence[Picture]) -> Markup:
    """Returns the part of the page that shows pictures."""
    if not pictures:
        return section("Pictures", "This report was written without pictures.")
    of_pixels = any(picture.prediction.overlay for picture in pictures)
    figures = [
        PARTS.picture(
            f"photo-{i}", picture, picture.caption, [picture.ground_truth, picture.prediction]
        )
        for i, picture in enumerate(pictures)
    ]
    if of_pixels:
        return section(
            "Pictures",
            "The worst images, in the order of their table. On the left (above, where there is "
            "little room) the classes of the ground truth, on the right the predicted ones: pale "
            "where they are right, striped where they are wrong. No color: not evaluated.",
            *figures,
        )
    return section(
        "Pictures",
        "The worst images, in the order of their table. On the left (above, where there is little "
        "room) the objects of the ground truth that count, on the right the predictions, of "
        f"instances those with a score of at least {SHOWN}. Lines and letters say what became of "
        "each at overlap 0.5; resting on an object with the mouse tells more.",
        legend(),
        *figures,
    )


def legend() -> Markup:
    """Returns the legend: how each verdict is drawn."""
    return PARTS.verdicts(VERDICTS)
