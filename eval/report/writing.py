"""A result as one HTML file that opens anywhere, without a network."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from m2f_jax.files import replacing

from ..analysis.analysis import Analysis
from ..metrics.cityscapes.instance_ap_result import InstanceAPResult
from ..metrics.coco.lvis_ap import LvisMaskAPResult
from ..metrics.coco.mask_ap import CocoMaskAPResult
from ..metrics.coco.track_ap import TrackAPResult
from ..metrics.panoptic.panoptic_quality import PanopticQualityResult
from ..metrics.semantic.scores import SemanticIoUResult
from ..results.published import Published
from .page import TEMPLATES
from .pictures import Picture, picture_section
from .sections.cityscapes import cityscapes_headline, cityscapes_sections
from .sections.coco import coco_headline, coco_sections
from .sections.overview import interval
from .sections.panoptic import panoptic_headline, panoptic_sections
from .sections.semantic import semantic_headline, semantic_sections

# For each kind of result, the numbers at the top of its page and the sections below them.
CONTENTS: dict[type, tuple[Callable[[Any], dict[str, float]], Callable[[Any, Analysis], list]]] = {
    InstanceAPResult: (cityscapes_headline, cityscapes_sections),
    CocoMaskAPResult: (coco_headline, coco_sections),
    LvisMaskAPResult: (coco_headline, coco_sections),
    TrackAPResult: (coco_headline, coco_sections),
    PanopticQualityResult: (panoptic_headline, panoptic_sections),
    SemanticIoUResult: (semantic_headline, semantic_sections),
}


def write_report(
    path: str | os.PathLike,
    result: Any,
    analysis: Analysis,
    *,
    title: str,
    settings: Mapping[str, Any],
    published: Published,
    pictures: Sequence[Picture],
):
    """Writes the page, which is complete or not there at all.

    Args:
        path: of the .html file.
        result: the result of one of the metrics.
        analysis: what lies behind it.
        title: the heading, in plain text.
        settings: what was evaluated and how; values that are None are left out.
        published: the authors' scores of the model.
        pictures: the images to show, as `pictures.worst_pictures` makes them.

    Raises:
        TypeError: the result isn't one of a metric.
    """
    if type(result) not in CONTENTS:
        raise TypeError(f"no report can be made of a {type(result).__name__}")
    headline_of, sections_of = CONTENTS[type(result)]
    found, boundary = analysis.intervals, analysis.boundary
    headline = headline_of(result)
    within = {analysis.tally.score: interval(found.low, found.high)}
    if boundary is not None:
        headline = headline | dict(boundary.scores)
        within[boundary.name] = interval(boundary.intervals.low, boundary.intervals.high)
    page = TEMPLATES.get_template("page.html").render(
        title=title,
        headline=headline,
        intervals=within,
        published=published,
        settings=settings,
        sections=[*sections_of(result, analysis), picture_section(pictures)],
    )
    with replacing(path) as unfinished:
        unfinished.write_text(page + "\n", encoding="utf-8")
