"""All files are read before the first step: what is found, and what is remembered of it."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from m2f_jax.datasets.checked_files import CheckedFiles
from m2f_jax.datasets.checking import check_examples, check_images, read_contents
from m2f_jax.datasets.examples import Example, Segments
from m2f_jax.datasets.folder import folder_dataset
from m2f_jax.labels import Label

LABELS = [{"id": 1, "name": "cat", "is_thing": True}, {"id": 2, "name": "dog", "is_thing": True}]
SIZE = (8, 12)


@pytest.fixture
def folder(tmp_path):
    """Three images: two cats, nothing, a dog."""
    (tmp_path / "labels.json").write_text(json.dumps(LABELS))
    for kind in ("images", "ids"):
        (tmp_path / kind).mkdir()
    rng = np.random.default_rng(0)
    for name, ids in {"a": (1000, 1001), "b": (), "c": (2005,)}.items():
        pixels = np.zeros(SIZE, np.uint16)
        for row, id_ in enumerate(ids):
            pixels[row] = id_
        Image.fromarray(pixels).save(tmp_path / "ids" / f"{name}.png")
        picture = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / "images" / f"{name}.jpg")
    return tmp_path


class Reader:
    """Reads as training does, and counts."""

    __name__ = "reader"

    def __init__(self):
        self.read = []

    def __call__(self, dataset, index):
        self.read.append(dataset.images[index].name)
        return read_contents(dataset, index)


def check(folder, task="instance"):
    """What is in the images, and which of them were read."""
    dataset, reader = folder_dataset(folder, task), Reader()
    with CheckedFiles(folder / "checked.jsonl") as record:
        look = record.checked(reader)
        contents = check_examples(dataset, threads=1, check=lambda index: look(dataset, index))
    return contents, reader.read


def test_what_was_read_once_is_not_read_again(folder):
    first, read = check(folder)
    assert read == ["a", "b", "c"]
    assert first.counts.tolist() == [[2, 0], [0, 0], [0, 1]]
    assert not first.without_pixels.any()
    again, read = check(folder)
    assert read == []
    np.testing.assert_array_equal(again, first)


@pytest.mark.parametrize("changed", ["images/b.jpg", "ids/b.png"])
def test_what_changed_is_read_again(folder, changed):
    check(folder)
    path = folder / changed
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    assert check(folder)[1] == ["b"]
    path.write_bytes(path.read_bytes() + b"\0")
    assert check(folder)[1] == ["b"]
    assert check(folder)[1] == []
    assert check(folder, "panoptic")[1] == ["a", "b", "c"]
    assert check(folder)[1] == []


def test_faults_are_not_remembered_and_the_rest_is(folder):
    picture = folder / "images" / "b.jpg"
    whole = picture.read_bytes()
    picture.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"1 of the 3 images can't be used:\n.*b\.jpg can't be"):
        check(folder)
    with pytest.raises(ValueError, match=r"b\.jpg"):
        check(folder)
    picture.write_bytes(whole)
    assert check(folder)[1] == ["b"]


def test_a_killed_check_leaves_half_a_line(folder):
    check(folder)
    record = folder / "checked.jsonl"
    record.write_bytes(record.read_bytes()[:-7])
    assert check(folder)[1] == ["c"]
    assert check(folder)[1] == []


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        "{",
        '{"files": 1, "segments": [], "without_pixels": []}',
        '{"files": "x", "segments": [-1], "without_pixels": []}',
        '{"files": "x", "segments": [0.5], "without_pixels": []}',
        '{"files": "x", "segments": null, "without_pixels": []}',
        '{"files": "x", "segments": []}',
    ],
)
def test_a_damaged_record_is_named(folder, line):
    check(folder)
    record = folder / "checked.jsonl"
    record.write_text(f"{line}\n" + record.read_text())
    with pytest.raises(ValueError, match=r"line 1 of .*checked\.jsonl"):
        check(folder)


def test_a_record_of_more_classes_is_named(folder):
    check(folder)
    record = folder / "checked.jsonl"
    record.write_text(record.read_text().replace("[1]", "[7]"))
    with pytest.raises(ValueError, match=r"checked\.jsonl is damaged; remove it"):
        check(folder)


def test_another_process_reads_the_record_but_does_not_write(folder):
    check(folder)
    before = (folder / "checked.jsonl").read_bytes()
    (folder / "images" / "a.jpg").touch()
    dataset, reader = folder_dataset(folder, "instance"), Reader()
    with CheckedFiles(folder / "checked.jsonl", write=False) as record:
        look = record.checked(reader)
        check_images(3, lambda index: look(dataset, index))
    assert reader.read == ["a"]
    assert (folder / "checked.jsonl").read_bytes() == before


class Outlines:
    """One image, one of whose outlines is thinner than a pixel, and sizes as given."""

    labels = tuple(Label(**values) for values in LABELS)
    task = "instance"

    def __init__(self, size=SIZE):
        self.size = size

    def __len__(self):
        return 1

    def __getitem__(self, index):
        del index
        masks = np.zeros((2, *SIZE), bool)
        masks[0, :2] = True
        segments = Segments.from_masks(masks, np.array([0, 1], np.int32), SIZE)
        return Example(np.zeros((*self.size, 3), np.uint8), segments)

    def check(self, index):
        return np.bincount(self[index].segments.labels)


def test_objects_without_a_pixel_are_told_apart():
    contents = check_examples(Outlines())
    assert contents.counts.tolist() == [[1, 0]]
    assert contents.without_pixels.tolist() == [[0, 1]]


def test_sizes_of_one_s_own_data_are_compared():
    with pytest.raises(ValueError, match=r"example 0 has an image of \(5, 5\) and segments of"):
        check_examples(Outlines((5, 5)))


def test_an_interruption_ends_the_check_at_once():
    started = []

    def slow(index):
        started.append(index)

    def interrupt(done, _):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        check_images(5_000, slow, interrupt, threads=1)
    assert len(started) < 5_000
