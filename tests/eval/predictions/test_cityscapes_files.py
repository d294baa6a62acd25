"""Files of Cityscapes predictions that people have: read right, or refused by file and place."""

import json
import os
import signal

import numpy as np
import pytest
from m2f_jax.eval.predictions.cityscapes import find_predictions, read_lines
from m2f_jax.eval.predictions.panoptic import read_entries
from PIL import Image

from m2f_jax.datasets.published.cityscapes import cityscapes_dataset

NAME = "town_000000_000000"
LINES = "a.png 26 0.9\nb.png 24 0.8\n"
SEGMENT = {"id": 1, "category_id": 26}
ENTRY = {"image_id": NAME, "file_name": f"{NAME}.png", "segments_info": [SEGMENT]}


@pytest.fixture(autouse=True)
def _no_hang():
    """Ends a test that waits for a pipe."""

    def stop(*_):
        raise TimeoutError("hangs")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(60)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def items(tmp_path):
    """The one image of a Cityscapes tree."""
    ids = np.full((8, 16), 7, np.uint16)
    ids[2:6, 2:6] = 26001
    for folder, ending, array in (
        ("leftImg8bit", "_leftImg8bit", np.zeros((8, 16, 3), np.uint8)),
        ("gtFine", "_gtFine_instanceIds", ids),
    ):
        path = tmp_path / "root" / folder / "val" / "town" / f"{NAME}{ending}.png"
        path.parent.mkdir(parents=True)
        Image.fromarray(array).save(path)
    return cityscapes_dataset(tmp_path / "root", "val", "instance").images


@pytest.fixture
def found(tmp_path):
    """A folder with predictions of every format."""
    folder = tmp_path / "found"
    (folder / "maps").mkdir(parents=True)
    for name in ("a.png", "b.png"):
        Image.fromarray(np.eye(8, 16, dtype=np.uint8)).save(folder / name)
    (folder / f"{NAME}_pred.txt").write_text(LINES)
    Image.fromarray(np.zeros((8, 16, 3), np.uint8)).save(folder / "maps" / f"{NAME}.png")
    (folder / "maps.json").write_text(json.dumps({"annotations": [ENTRY]}))
    return folder


def read_all(folder, items, task="instance"):
    files = find_predictions(folder, task, items, {NAME})
    return files.read(items[0])


@pytest.mark.parametrize(
    "data",
    [
        b"\xef\xbb\xbf" + LINES.encode(),
        LINES.replace("\n", "\r\n").encode(),
        b"\r\n" + LINES.replace("\n", "\r\n \r\n\r\n").encode(),
        LINES.rstrip("\n").encode(),
        LINES.replace("26", "26.0").encode(),
    ],
    ids=["byte order mark", "CRLF", "blank lines", "no end of line", "id as a float"],
)
def test_texts_as_other_programs_write_them(items, found, data):
    expected = read_all(found, items)
    (found / f"{NAME}_pred.txt").write_bytes(data)
    again = read_all(found, items)
    np.testing.assert_array_equal(again.labels, [26, 24])
    np.testing.assert_array_equal(again.scores, [0.9, 0.8])
    np.testing.assert_array_equal(again.masks, expected.masks)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a.png person 0.8", "'person' is the name of a class; write its label id, 24"),
        ("a.png sky 0.8", "'sky' is the name of a class; write its label id, 23"),
        ("a.png cat 0.8", "the label id is 'cat', not a number"),
        ("a.png traffic light 0.8", 'such as "mask.png 24 0.9" for a person'),
        ("a.png 0.8 24", "the label id is 0.8, not a whole number"),
        ("a.png inf 0.8", "the label id is inf, not a whole number"),
        ("a.png 1e999 0.8", "the label id is 1e999, not a whole number"),
        ("a.png 24 nan", "the score is nan, not a finite number"),
        ("a.png 24 inf", "the score is inf, not a finite number"),
        ("a.png 24 -Infinity", "the score is -Infinity, not a finite number"),
        ("a.png 24 high", "the score is 'high', not a number"),
        ("a.png 24 0,8", "the score is '0,8', not a number"),
        ("a.png 24 ", "the score is '', not a number"),
        ("a.png\t24\t0.8", "expected"),
        ("a.png 24 0.8 ", "expected"),
        ("../a.png 24 0.8", "'../a.png' leads out of"),
        ("sub/../../a.png 24 0.8", "'sub/../../a.png' leads out of"),
        ("/tmp/a.png 24 0.8", "'/tmp/a.png' leads out of"),
    ],
)
def test_odd_lines_are_named(found, line, message):
    path = found / "odd.txt"
    path.write_text(f"{LINES}\n{line}\n")
    with pytest.raises(ValueError, match="odd") as info:
        read_lines(path, found)
    assert str(info.value).startswith(f"{path}, line 4: ")
    assert message in str(info.value)


@pytest.mark.parametrize("data", [LINES.encode("utf-16"), b"\xe9.png 24 0.8\n"])
def test_texts_in_another_encoding_are_named(found, data):
    path = found / "odd.txt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"odd\.txt isn't text in UTF-8"):
        read_lines(path, found)


def link_to_itself(path):
    path.symlink_to(path.name)


REPLACED = [link_to_itself, os.mkfifo, lambda path: path.mkdir()]


@pytest.mark.parametrize("replace", REPLACED, ids=["link to itself", "pipe", "folder"])
@pytest.mark.parametrize("name", ["b.png", f"{NAME}_pred.txt"])
def test_what_is_no_regular_file_is_named(items, found, name, replace):
    (found / name).unlink()
    replace(found / name)
    with pytest.raises((ValueError, FileNotFoundError)) as info:
        read_all(found, items)
    assert str(found / name) in str(info.value)


@pytest.mark.parametrize("task", ["panoptic", "semantic"])
@pytest.mark.parametrize("replace", REPLACED, ids=["link to itself", "pipe", "folder"])
def test_a_map_that_is_no_regular_file_is_named(items, found, task, replace):
    path = found / "maps" / f"{NAME}.png"
    assert read_all(found, items, "panoptic").segments == [SEGMENT]
    path.unlink()
    replace(path)
    with pytest.raises((ValueError, FileNotFoundError)) as info:
        read_all(found if task == "panoptic" else found / "maps", items, task)
    assert str(path) in str(info.value)


def test_a_mask_that_claims_to_be_huge_is_named(items, found):
    Image.new("1", (20_000, 20_000)).save(found / "b.png")
    with pytest.raises(ValueError, match=r"b\.png.* 20000 x 20000"):
        read_all(found, items)


ODD = [None, True, 1.5, "text", [], {}, [[]], [{}], [None]]
FITTING = {"image_id": ["text"], "file_name": ["text"], "segments_info": [[]]}


@pytest.mark.parametrize("field", ENTRY)
@pytest.mark.parametrize("value", [*ODD, 7], ids=repr)
def test_fields_of_a_wrong_type_are_named(tmp_path, field, value):
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"annotations": [ENTRY, ENTRY | {field: value}]}))
    if value in FITTING[field] or (field == "image_id" and value == 7):
        assert len(read_entries(file)) == 2
        return
    with pytest.raises(ValueError, match="found") as info:
        read_entries(file)
    assert str(info.value).startswith(f"{file}: entry 1: {field}")


@pytest.mark.parametrize("field", SEGMENT)
@pytest.mark.parametrize("value", [*ODD, 26.0, float("nan")], ids=repr)
def test_fields_of_a_segment_of_a_wrong_type_are_named(tmp_path, field, value):
    entry = ENTRY | {"segments_info": [SEGMENT, SEGMENT | {field: value}]}
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"annotations": [entry]}))
    with pytest.raises(ValueError, match="found") as info:
        read_entries(file)
    assert str(info.value).startswith(f"{file}: entry 0: segments_info[1].{field} has the value")


@pytest.mark.parametrize("content", [None, 1, "text", [], {}, {"annotations": None}])
def test_other_json_is_named(tmp_path, content):
    file = tmp_path / "found.json"
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"found\.json isn't a COCO panoptic file"):
        read_entries(file)


@pytest.mark.parametrize("entry", [None, 7, [], "text"])
def test_entries_that_are_no_objects_are_named(tmp_path, entry):
    file = tmp_path / "found.json"
    file.write_text(json.dumps({"annotations": [entry]}))
    with pytest.raises(ValueError, match=r"found\.json: entry 0 needs an object"):
        read_entries(file)


@pytest.mark.parametrize("field", ENTRY)
def test_fields_that_are_missing_are_named(tmp_path, field):
    file = tmp_path / "found.json"
    rest = {key: value for key, value in ENTRY.items() if key != field}
    file.write_text(json.dumps({"annotations": [rest]}))
    with pytest.raises(ValueError, match=rf"found\.json: entry 0 has no {field}"):
        read_entries(file)


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "x/../../a.png", "\0.png", "a" * 300])
def test_maps_elsewhere_are_refused(items, found, name):
    (found / "maps.json").write_text(json.dumps({"annotations": [ENTRY | {"file_name": name}]}))
    with pytest.raises((ValueError, FileNotFoundError)) as info:
        read_all(found, items, "panoptic")
    assert name in str(info.value) or repr(name) in str(info.value)


def test_a_deep_file_is_named(items, found):
    (found / "maps.json").write_text("[" * 100_000)
    with pytest.raises(ValueError, match=r"maps\.json is nested too deeply"):
        read_all(found, items, "panoptic")
