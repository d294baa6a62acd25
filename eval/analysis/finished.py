"""The folder of a finished evaluation: what is kept in it besides results.json, and reading it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2f_jax.files import read_json, write_json
from m2f_jax.plain import from_plain

from .analysis import Analysis
from .tables import analysis_json, class_rows, image_rows, write_csv
from .tallies.boundary import BoundaryTally
from .tallies.files import load_tally, save_tally
from .tallies.tally import Tally

RESULTS = "results.json"
TALLY = "tally.npz"
BOUNDARY_TALLY = "boundary_tally.npz"


@dataclass(frozen=True, eq=False, kw_only=True)
class Finished:
    """A finished evaluation.

    Attributes:
        folder: where it is.
        task: what was evaluated.
        settings: what was evaluated and how; the version, the date and the command.
        tally: what was counted in each image.
        boundary: the same by boundaries; None if it wasn't asked for.
    """

    folder: Path
    task: str
    settings: Mapping[str, Any]
    tally: Tally
    boundary: BoundaryTally | None = None


def write_analysis(folder: Path, analysis: Analysis):
    """Writes analysis.json, classes.csv and images.csv for people, and tallies for `compare`."""
    folder.mkdir(parents=True, exist_ok=True)
    values = analysis_json(analysis)
    write_json(folder / "analysis.json", values)
    for name, rows in (("classes", class_rows(analysis)), ("images", image_rows(analysis))):
        write_csv(folder / f"{name}.csv", rows, list(rows[0]) if rows else [name])
    save_tally(folder / TALLY, analysis.tally)
    if analysis.boundary is None:
        (folder / BOUNDARY_TALLY).unlink(missing_ok=True)  # of an earlier evaluation
    else:
        save_tally(folder / BOUNDARY_TALLY, analysis.boundary.tally)


def read_finished(folder: Path) -> Finished:
    """Reads the folder that `m2f eval --out` wrote.

    Raises:
        FileNotFoundError: there is no finished evaluation; the message says what is missing.
        ValueError: a file is broken.
    """
    for name in (RESULTS, TALLY):
        if not (folder / name).is_file():
            raise FileNotFoundError(
                f"{folder} has no {name}: it isn't the --out folder of an evaluation that finished "
                "with this version; run m2f eval with --out again"
            )
    results = read_json(folder / RESULTS)
    if not isinstance(results, Mapping) or not isinstance(results.get("settings"), Mapping):
        raise ValueError(f"{folder / RESULTS} isn't a results.json of m2f eval: it has no settings")
    boundary = None
    if isinstance(found := results.get("boundary"), Mapping):
        ratio = found.get("dilation_ratio")
        ratio = from_plain(float, ratio, f"{folder / RESULTS}: boundary.dilation_ratio")
        boundary = BoundaryTally(tally=load_tally(folder / BOUNDARY_TALLY), dilation_ratio=ratio)
    return Finished(
        folder=folder,
        task=str(results.get("task")),
        settings={**results["settings"], **(results.get("provenance") or {})},
        tally=load_tally(folder / TALLY),
        boundary=boundary,
    )
