"""An analysis as rows, one for each class and one for each image, for CSV and JSON.

Scores, gains, precision and recall are in percent; thresholds are scores of predictions. NaN means
that there is nothing to score.
"""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from m2f_jax.files import replacing

from .analysis import Analysis, InstanceAnalysis
from .bootstrap import COVERAGE, RESAMPLES, SEED
from .errors import Error
from .tallies.tally import whole

Row = dict[str, Any]


def class_rows(analysis: Analysis) -> list[Row]:
    """Returns a row for each class."""
    tally, found = analysis.tally, analysis.intervals
    per_class = "IoU" if tally.score == "mIoU" else tally.score
    columns: dict[str, Sequence[Any]] = {
        "class": tally.class_names,
        per_class: percents(found.class_scores),
        f"{per_class} low": percents(found.class_low),
        f"{per_class} high": percents(found.class_high),
        **{name: counts.tolist() for name, counts in tally.class_counts().items()},
    }
    if analysis.instances is not None:
        columns |= instance_columns(analysis.instances)
    if (boundary := analysis.boundary) is not None:
        of_boundary = boundary.intervals
        columns |= {
            boundary.name: percents(of_boundary.class_scores),
            f"{boundary.name} low": percents(of_boundary.class_low),
            f"{boundary.name} high": percents(of_boundary.class_high),
        }
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def instance_columns(more: InstanceAnalysis) -> dict[str, Sequence[Any]]:
    """Returns the columns that classes of instances have besides."""
    tally, best = more.tally, more.thresholds
    aps = tally.average_precisions(whole(len(tally.images)))[0]
    return {
        "AP50": percents(aps[:, 0]),
        "AP75": percents(aps[:, 5]),
        **{
            f"AP {size}": percents(part.ap_matrix.mean(axis=1))
            for size, part in more.by_size.items()
        },
        "best threshold": [one.score for one in best],
        "precision there": [100 * one.precision for one in best],
        "recall there": [100 * one.recall for one in best],
        "F1 there": [100 * one.f1 for one in best],
        **{
            f"{error.name.lower()} errors": more.errors.counts[:, error].tolist() for error in Error
        },
    }


def image_rows(analysis: Analysis) -> list[Row]:
    """Returns a row for each image."""
    tally = analysis.tally
    name = "F1" if analysis.instances is not None else tally.score
    columns = {
        "image": tally.images,
        name: percents(tally.image_scores()),
        **{name: counts.tolist() for name, counts in tally.image_counts().items()},
    }
    if (boundary := analysis.boundary) is not None:
        columns[boundary.image_name] = percents(boundary.tally.image_scores())
    return [
        dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)
    ]


def analysis_json(analysis: Analysis) -> dict[str, Any]:
    """Returns all of it as plain values."""
    found = analysis.intervals
    values: dict[str, Any] = {
        "score": analysis.tally.score,
        "value": 100 * found.score,
        "low": 100 * found.low,
        "high": 100 * found.high,
        "intervals": {"coverage": COVERAGE, "resamples of images": RESAMPLES, "seed": SEED},
    }
    if analysis.instances is not None:
        errors = analysis.instances.errors
        totals = errors.counts.sum(axis=0).tolist()
        values["errors"] = {
            "AP50": 100 * errors.ap,
            "kinds": {
                error.name.lower(): {"count": totals[error], "gain": 100 * errors.gains[error]}
                for error in Error
            },
            "gain without false positives": 100 * errors.gain_false_positives,
            "gain without false negatives": 100 * errors.gain_false_negatives,
        }
    if (boundary := analysis.boundary) is not None:
        within = boundary.intervals
        values["boundary"] = {
            "score": boundary.name,
            "dilation ratio": boundary.dilation_ratio,
            "value": 100 * within.score,
            "low": 100 * within.low,
            "high": 100 * within.high,
        }
    values["confusion"] = {
        "rows": "ground truth; the last one is none",
        "columns": "predictions; the last one is none",
        "classes": list(analysis.confusion.class_names),
        "counts": analysis.confusion.counts.tolist(),
    }
    return {**values, "classes": class_rows(analysis), "images": image_rows(analysis)}


def write_csv(path: str | os.PathLike, rows: Sequence[Mapping[str, Any]], header: Sequence[str]):
    """Writes rows with a header; the file is complete or not there at all. NaN is left empty."""
    file = io.StringIO(newline="")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([[shown(row[name]) for name in header] for row in rows])
    with replacing(path) as unfinished:
        unfinished.write_text(file.getvalue(), encoding="utf-8")


def shown(value: Any) -> Any:
    """Returns a cell's content."""
    return "" if value is None or value != value else value


def percents(fractions: np.ndarray) -> list[float]:
    """Returns fractions in percent."""
    return (100 * fractions).tolist()
