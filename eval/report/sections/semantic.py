"""What a report says of semantic IoU."""

import math

from markupsafe import Markup

from ...analysis.analysis import Analysis
from ...metrics.semantic.scores import SemanticIoUResult
from ..page import MISSING, percent, section, shaded_percent, short_count, table
from .overview import class_section, confusion_section, image_section, interval


def semantic_headline(result: SemanticIoUResult) -> dict[str, float]:
    """Returns the numbers at the top of the page, as fractions."""
    numbers = {"mIoU": result.miou, "iIoU": result.iiou, "category mIoU": result.category_miou}
    return {name: value for name, value in numbers.items() if not math.isnan(value)} or numbers


def semantic_sections(result: SemanticIoUResult, analysis: Analysis) -> list[Markup]:
    """Returns the parts of the page."""
    return [
        classes(result, analysis),
        *([categories(result)] if result.per_category else []),
        image_section(analysis.tally),
        confusion_section(
            analysis.confusion,
            "pixels",
            "Of the pixels of each class, how many percent were predicted as each class. A perfect "
            "result has 100 on the diagonal; · is less than 0.05.",
        ),
    ]


def classes(result: SemanticIoUResult, analysis: Analysis) -> Markup:
    """Returns the table of classes."""
    found, counts = analysis.intervals, analysis.tally.class_counts()
    has_objects = not math.isnan(result.iiou)
    columns = {
        **(
            {"iIoU": [shaded_percent(row.iiou) for row in result.per_class.values()]}
            if has_objects
            else {}
        ),
        **{name: [*map(short_count, column.tolist())] for name, column in counts.items()},
    }
    total = ["mean", percent(result.miou), interval(found.low, found.high)]
    total += [percent(result.iiou)] * has_objects + [""] * len(counts)
    objects = ", and the same with every object weighted alike (iIoU)" if has_objects else ""
    return class_section(
        analysis,
        columns,
        [total],
        f"Intersection over union (IoU) in percent{objects}; then pixels. {MISSING} means that "
        "there is no such pixel, or no such object.",
    )


def categories(result: SemanticIoUResult) -> Markup:
    """Returns the table of categories."""
    rows = [
        [name, shaded_percent(row.iou), shaded_percent(row.iiou)]
        for name, row in result.per_category.items()
    ]
    rows.append(["mean", *map(percent, (result.category_miou, result.category_iiou))])
    return section(
        "Categories",
        "The same of groups of classes: a class that is taken for another of its category is right "
        "here.",
        table(["category", "IoU", "iIoU"], rows, total_rows=1),
    )
