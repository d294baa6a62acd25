"""The fast readers of COCO results give what the one that goes through entries gives."""

import json
from pathlib import Path

import numpy as np
import pytest
from m2f_jax.eval.predictions import coco_columns
from m2f_jax.eval.predictions.coco import find_coco_predictions
from m2f_jax.eval.predictions.coco_columns import columns_of, fields_of, read_fields
from m2f_jax.eval.predictions.coco_results import columns_one_by_one

from tests.eval.predictions.coco.case import BAD, GOOD, SIZE, result, results, write

needs_msgspec = pytest.mark.skipif(
    coco_columns.msgspec is None, reason="msgspec isn't installed; without it all is read as JSON"
)


def columns(entries, *images):
    """What both readers make of entries about these images, of 1, 2 and 3, and "1.png" for 2."""
    names = {1: "0", 2: "1", 3: "2", "1.png": "1"}
    sizes = dict.fromkeys(images or ("0", "1", "2"), SIZE)
    fields = fields_of(entries)
    return (
        None if fields is None else columns_of(fields, names.get, sizes),
        columns_one_by_one(Path("found.json"), entries, names.get, sizes, scored=True),
    )


@pytest.mark.parametrize(
    ("entries", "images"),
    [
        ([], ()),
        (results(1, 2, 3), ()),
        (results(3, "1.png", 1), ()),
        (results(3, 1, 2), ("1", "2")),
        (results(1, 1, 1), ("2",)),
        ([result(0, 1, score=1, bbox=[1, 2, 3, 4], id="x"), *results(2, 2)], ()),
        ([result(0, 1, category_id=-7, score=-1e299), *results(2)], ()),
    ],
)
def test_entries_read_as_columns_are_those_read_one_by_one(entries, images):
    fast, slow = columns(entries, *images)
    assert fast is not None
    assert fast.names == slow.names
    for ours, expected in zip(fast.results, slow.results, strict=True):
        assert type(ours) is type(expected)
        np.testing.assert_array_equal(ours, expected)
    assert fast.results.numbers.dtype == slow.results.numbers.dtype
    assert fast.results.scores.dtype == slow.results.scores.dtype


@pytest.mark.parametrize("case", sorted(BAD.keys() - {"category unknown"}))
def test_columns_are_left_to_the_reader_that_names_an_entry(case):
    entry, message = BAD[case]
    fields = fields_of([GOOD, entry])
    assert fields is None or columns_of(fields, {1: "0"}.get, {"0": SIZE}) is None
    with pytest.raises(ValueError, match=message):
        columns([GOOD, entry])


@pytest.mark.parametrize("size", [[96, 64], [-64, -96], [64], [2**40, 2**40], ["64", 96], 64])
@pytest.mark.parametrize("others", [0, 1])
def test_sizes_of_masks_are_those_of_their_image(tmp_path, size, others):
    entries = [GOOD | {"segmentation": GOOD["segmentation"] | {"size": size}}, *[GOOD] * others]
    for fields in (fields_of(entries), read_fields(write(tmp_path / "found.json", entries))):
        assert fields is None or columns_of(fields, {1: "0"}.get, {"0": SIZE}) is None
    with pytest.raises(ValueError, match="entry 0: a mask's size is"):
        columns(entries)


SOUND = json.dumps([GOOD, GOOD | {"bbox": [1, 2, 3, 4], "id": 7, "iscrowd": 0, "area": 2.5}])
ODD = {  # what msgspec would pass over, or refuses and Python's reader takes
    "a key twice": SOUND.replace('"score": 0.9', '"score": 0.9, "score": 0.9', 1),
    "another spelling": SOUND.replace('"score": 0.9', '"score": 0.9, "scor\\u0065": 0.8', 1),
    "a key twice within": SOUND.replace('"size"', '"size": [1, 1], "size"', 1),
    "another key": SOUND.replace('"bbox"', '"name"', 1),
    "text": SOUND.replace("2.5", '"2"', 1),
    "an object": SOUND.replace("2.5", '{"a": 1, "a": 1}', 1),
    "a quotation mark": SOUND.replace('"counts": "', '"counts": "\\"', 1),
    "nan": SOUND.replace("0.9", "NaN", 1),
    "infinite": SOUND.replace("0.9", "1e999", 1),
    "a byte order mark": "\ufeff" + SOUND,
    "half of it": SOUND[:-20],
    "nested": "[" * 100_000,
}


@needs_msgspec
@pytest.mark.parametrize("text", [SOUND, json.dumps(results(3, "1.png"), indent=2), "[]"])
def test_msgspec_reads_what_pythons_reader_reads(tmp_path, text):
    path = tmp_path / "found.json"
    path.write_text(text)
    assert read_fields(path) == fields_of(json.loads(text)) is not None


@needs_msgspec
@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_msgspec_leaves_odd_files_to_pythons_reader(tmp_path, text):
    path = tmp_path / "found.json"
    path.write_text(text, encoding="utf-8")
    assert read_fields(path) is None


@needs_msgspec
def test_results_are_the_same_without_msgspec(dataset, tmp_path, monkeypatch):
    path, data = write(tmp_path / "found.json", results(1, 2, 3)), dataset()
    fast = find_coco_predictions(path, "instance", data.images, data)
    monkeypatch.setattr(coco_columns, "msgspec", None)
    assert read_fields(path) is None
    slow = find_coco_predictions(path, "instance", data.images, data)
    for item in data.images:
        ours, theirs = fast.read(item), slow.read(item)
        assert ours.masks == theirs.masks
        assert ours.labels.tolist() == theirs.labels.tolist()
        assert ours.scores.tolist() == theirs.scores.tolist()
