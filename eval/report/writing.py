"""A result as one HTML file that opens anywhere, without a network."""

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from m2f_jax.files import replacing

from ..metrics.coco.mask_ap import CocoMaskAPResult
from ..metrics.coco.track_ap import TrackAPResult
from ..metrics.instances.report_data import InstanceAPResult
from ..metrics.panoptic.panoptic_quality import PanopticQualityResult
from ..metrics.semantic.scores import SemanticIoUResult
from ..published import Published
from .coco import coco_headline, coco_sections
from .instances import instance_headline, instance_sections
from .page import TEMPLATES, section
from .panoptic import panoptic_headline, panoptic_sections
from .pictures import (
    Picture,
    picture_section,
    worst_images,
    worst_pictures,
    worst_pictures_of_files,
)
from .semantic import semantic_headline, semantic_sections

__all__ = [
    "Picture",
    "worst_images",
    "worst_pictures",
    "worst_pictures_of_files",
    "write_report",
]

# For each kind of result, the numbers at the top of its page and the sections below them.
CONTENTS: dict[type, tuple[Callable[[Any], dict[str, float]], Callable[[Any], list]]] = {
    InstanceAPResult: (instance_headline, instance_sections),
    CocoMaskAPResult: (coco_headline, coco_sections),
    TrackAPResult: (coco_headline, coco_sections),
    PanopticQualityResult: (panoptic_headline, panoptic_sections),
    SemanticIoUResult: (semantic_headline, semantic_sections),
}


def write_report(
    path: str | os.PathLike,
    result: Any,
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
        title: the heading, in plain text.
        settings: what was evaluated and how; values that are None are left out.
        published: the authors' scores of the model.
        pictures: the images to show, as `worst_pictures` makes them.

    Raises:
        TypeError: the result isn't one of a metric.
    """
    if type(result) not in CONTENTS:
        raise TypeError(f"no report can be made of a {type(result).__name__}")
    headline_of, sections_of = CONTENTS[type(result)]
    headline, sections = headline_of(result), sections_of(result)
    if pictures:
        sections.append(picture_section(pictures))
    elif isinstance(result, InstanceAPResult):
        sections.append(section("Pictures", "This report was written without pictures."))
    page = TEMPLATES.get_template("page.html").render(
        title=title, headline=headline, published=published, settings=settings, sections=sections
    )
    with replacing(path) as unfinished:
        unfinished.write_text(page + "\n", encoding="utf-8")
