"""The files by which `m2f predict` knows what its output folder holds."""

import json
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from m2f_jax.cli.predicting.folder import open_folder, stored_results, write_combined
from m2f_jax.files import read_json
from m2f_jax.labels import Label
from tests.fuzz.targets import fuzz, refused_by_name
from tests.fuzz.test_coco import RESULTS, VALUES, spoilt

LABELS = (Label(id=1, name="cat", is_thing=True), Label(id=2, name="dog", is_thing=True))
SETTINGS = {"weights": "w", "task": "instance", "threshold": 0.5}
RUN = {"format": 2, "model": "m", "settings": SETTINGS}
IMAGE = {"file_name": "a.png", "name": "a", "source": "/in/a.png", "digest": "d"}
RESULT = {"image": IMAGE | {"height": 12, "width": 16}, "annotations": [RESULTS[0], RESULTS[2]]}


def taken_up(out: Path, run: Any, result: Any):
    """Reads the folder as the next run does, and writes what that run would write."""
    (out / "results").mkdir(parents=True, exist_ok=True)
    for name in ("predictions.json", "images.json"):
        (out / name).unlink(missing_ok=True)
    (out / "run.json").write_text(json.dumps(run))
    (out / "results" / "a.json").write_text(json.dumps(result))
    there = open_folder(out, SETTINGS, LABELS, {}, overwrite=False)
    assert [picture.name for picture in there] == ["a"]
    results = stored_results(out)
    ids = {picture.file_name: picture.name for picture, _ in results}
    write_combined(out, "instance", LABELS, results, ids, boxes=True)
    for entry in read_json(out / "predictions.json"):
        left, top, width, height = entry["bbox"]
        assert 0 <= left <= left + width <= 16
        assert 0 <= top <= top + height <= 12


@fuzz(st.one_of(spoilt(RUN), VALUES))
def test_records_of_a_run(run, folder):
    try:
        taken_up(folder / "o", run, RESULT)
    except FileExistsError as error:  # it is another run
        with refused_by_name(folder / "o"):
            raise ValueError(error) from None


@fuzz(st.one_of(spoilt(RESULT), VALUES))
def test_results_of_an_image(result, folder):
    with refused_by_name(folder / "a.json"):
        taken_up(folder / "o", RUN, result)
