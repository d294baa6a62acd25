"""What a report says of errors of instances, and of the best thresholds."""

import math

from markupsafe import Markup

from ...analysis.analysis import InstanceAnalysis
from ...analysis.errors import Error, ErrorAnalysis
from ..charts import Bar, Frame, bar_chart
from ..page import MISSING, Cell, beside, percent, section, shaded_percent, table

# Of each kind of error: its words, its letter in pictures, and what it is.
KINDS = {
    Error.CLASSIFICATION: ("wrong class", "C", "a prediction on an object of another class"),
    Error.LOCALISATION: (
        "poor mask",
        "P",
        "one on an object of its class, overlap from 0.1 to 0.5",
    ),
    Error.BOTH: ("wrong class and mask", "W", "one on an object of another class, poorly"),
    Error.DUPLICATE: ("duplicate", "D", "one on an object that a better one has found"),
    Error.BACKGROUND: ("background", "B", "one on nothing, overlap up to 0.1"),
    Error.MISSED: ("missed", "M", "an object that no prediction is near to"),
}
HIGHEST = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # ends of the chart's axis


def style_of(error: Error) -> str:
    """Returns the name of an error in the style sheet."""
    return error.name.lower()


def error_section(more: InstanceAnalysis) -> Markup:
    """Returns the section of what is wrong, and of what mending it would bring."""
    errors = more.errors
    totals = errors.counts.sum(axis=0).tolist()
    rows = [
        [f"{letter} {words}", str(totals[error]), points(errors.gains[error]), meaning]
        for error, (words, letter, meaning) in KINDS.items()
    ]
    rows += [
        ["every false prediction", "", points(errors.gain_false_positives), "as if all were gone"],
        ["every missed object", "", points(errors.gain_false_negatives), "as if all were found"],
    ]
    return section(
        "What is wrong",
        "Predictions of every score by their kind of error, as TIDE has it, at overlap 0.5, and "
        f"by how many points AP50, which is {percent(errors.ap)} here, would rise if all errors of "
        "one kind were mended. The largest gain is what to work on first. The gains don't add up.",
        beside(
            gains_chart(errors),
            table(
                ["kind", "errors", "AP50 gained", "what it is"],
                rows,
                style="words",
                total_rows=2,
                name="Kinds of errors",
            ),
        ),
        counts_table(errors),
    )


def points(gain: float) -> str:
    """Returns a gain in percent points."""
    return MISSING if math.isnan(gain) else f"{100 * gain:.1f}"


def gains_chart(errors: ErrorAnalysis) -> Markup:
    """Draws what mending each kind of error would bring."""
    most = max((gain for gain in errors.gains.values() if not math.isnan(gain)), default=0.0)
    highest = next(value for value in HIGHEST if value >= min(most, 1.0))
    bars = [
        Bar(
            style=style_of(error),
            left=i + 0.18,
            right=i + 0.82,
            height=errors.gains[error],
            label=points(errors.gains[error]),
        )
        for i, error in enumerate(KINDS)
    ]
    words = [f"{letter}\n{words}".replace(" and", "\nand") for words, letter, _ in KINDS.values()]
    return bar_chart(
        Frame(
            width=560.0, height=250.0, x_range=(0.0, 6.0), highest=highest, top=18.0, bottom=58.0
        ),
        bars,
        [(i + 0.5, label) for i, label in enumerate(words)],
        "",
        "AP50 gained",
        "What mending each kind of error would bring: "
        + ", ".join(f"{KINDS[error][0]} {points(errors.gains[error])}" for error in KINDS),
    )


def counts_table(errors: ErrorAnalysis) -> Markup:
    """Returns the table of how many errors of each kind each class has."""
    rows: list[list[str | Cell]] = []
    for name, counts in zip(errors.class_names, errors.counts.tolist(), strict=True):
        whole = max(sum(counts), 1)
        rows.append([name, *(Cell(str(n), n / whole, "bad") if n else "·" for n in counts)])
    header = [f"{letter} {words}" for words, letter, _ in KINDS.values()]
    return table(["class", *header], rows, name="Errors by class")


def threshold_section(more: InstanceAnalysis) -> Markup:
    """Returns the section of each class's best threshold."""
    rows = [
        [
            name,
            MISSING if math.isnan(best.score) else f"{best.score:.2f}",
            *map(shaded_percent, (best.f1, best.precision, best.recall)),
        ]
        for name, best in zip(more.tally.class_names, more.thresholds, strict=True)
    ]
    return section(
        "The best thresholds",
        "The score from which on predictions of a class are best: where F1, the harmonic mean of "
        "precision and recall at overlap 0.5, is highest, in percent. Chosen on these images, they "
        "flatter a little.",
        table(["class", "score from", "F1", "precision", "recall"], rows, name="Best thresholds"),
    )
