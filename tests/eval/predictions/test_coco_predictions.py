"""Predictions in COCO's formats: which image is meant, and what is refused before it is scored."""

import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from m2f_jax.eval.metrics.coco.tool import TOOLS
from m2f_jax.eval.predictions import coco_columns
from m2f_jax.eval.predictions.coco import find_coco_predictions
from m2f_jax.eval.predictions.coco_columns import columns_of, fields_of, read_fields
from m2f_jax.eval.predictions.coco_results import columns_one_by_one
from m2f_jax.eval.predictions.exports import export_folder, finish_export
from m2f_jax.eval.predictions.files import measure_files
from m2f_jax.eval.predictions.image_names import ImageNames
from m2f_jax.eval.tasks import evaluation_of
from PIL import Image

from m2f_jax.cli import main
from m2f_jax.cli.evaluating import reading
from m2f_jax.datasets.coco import coco_dataset
from m2f_jax.inference.results import InstanceSegmentation
from m2f_jax.masks.rle import decode_rle, encode_rle

needs_msgspec = pytest.mark.skipif(
    coco_columns.msgspec is None, reason="msgspec isn't installed; without it all is read as JSON"
)
SIZE = (64, 96)


def square(left):
    mask = np.zeros(SIZE, bool)
    mask[10:40, left : left + 30] = True
    return mask


MASKS = [square(5), square(30), square(60)]


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def content_of(files=("0.png", "1.png", "2.png"), ids=(1, 2, 3)):
    """A square in each image; of the ids 1, 2 and 3, two are the names of other images' files."""
    images = [
        {"id": id_, "file_name": file, "height": 64, "width": 96}
        for id_, file in zip(ids, files, strict=True)
    ]
    annotations = [
        {"id": k + 1, "image_id": id_, "category_id": k % 2 + 1, "segmentation": encode_rle(mask)}
        for k, (id_, mask) in enumerate(zip(ids, MASKS, strict=True))
    ]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    return {"images": images, "annotations": annotations, "categories": categories}


@pytest.fixture
def dataset(tmp_path):
    def make(task="instance", **options):
        path = write(tmp_path / "truth.json", content_of(**options))
        return coco_dataset(path, tmp_path / "images", task)

    return make


def result(k, image_id, **changes):
    """What is right for image k, under an id."""
    entry = {"image_id": image_id, "category_id": k % 2 + 1, "score": 0.9 - 0.1 * k}
    return entry | {"segmentation": encode_rle(MASKS[k])} | changes


def results(*image_ids):
    return [result(k, image_id) for k, image_id in enumerate(image_ids)]


def score(path, dataset, task="instance"):
    """The official numbers."""
    evaluation = evaluation_of(dataset, task)
    files = find_coco_predictions(path, task, dataset.images, dataset)
    metric = evaluation.empty()
    for part in measure_files(evaluation, dataset.images, files):
        metric.merge(part)
    return metric.result()


def refused(path, dataset, message, task="instance"):
    with pytest.raises(ValueError, match=message) as caught:
        find_coco_predictions(path, task, dataset.images, dataset)
    assert str(path) in str(caught.value)


GOOD = result(0, 1)
BAD = {
    "null": (None, "entry 1: it is null, not an object"),
    "a list": ([1], "entry 1: it is a list, not an object"),
    "no score": ({k: v for k, v in GOOD.items() if k != "score"}, "entry 1: it has no score"),
    "a box": ({"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}, "boxes alone can't be"),
    "image unknown": (GOOD | {"image_id": 9}, "entry 1: it is about image 9, which isn't in the"),
    "image null": (GOOD | {"image_id": None}, "entry 1: image_id is null"),
    "image float": (GOOD | {"image_id": 1.0}, "entry 1: image_id is 1.0"),
    "image true": (GOOD | {"image_id": True}, "entry 1: image_id is true"),
    "image a list": (GOOD | {"image_id": [1]}, "entry 1: image_id is a list"),
    "category null": (GOOD | {"category_id": None}, "entry 1: category_id is null"),
    "category text": (GOOD | {"category_id": "1"}, "entry 1: category_id is the text '1'"),
    "category float": (GOOD | {"category_id": 1.5}, "entry 1: category_id is 1.5"),
    "category huge": (GOOD | {"category_id": 10**30}, "entry 1: category_id is 1000"),
    "category unknown": (
        GOOD | {"category_id": 0},
        r"image 1: the category ids \[0\] aren't",
    ),
    "score null": (GOOD | {"score": None}, "entry 1: score is null; it must be a finite number"),
    "score text": (GOOD | {"score": "0.9"}, "entry 1: score is the text '0.9'"),
    "score nan": (GOOD | {"score": math.nan}, "entry 1: score is nan"),
    "score infinite": (GOOD | {"score": -math.inf}, "entry 1: score is -inf"),
    "score true": (GOOD | {"score": True}, "entry 1: score is true"),
    "score beyond floats": (GOOD | {"score": 10**400}, "entry 1: score is 1000"),
    "mask null": (GOOD | {"segmentation": None}, "entry 1: it is null, but segmentation is a list"),
    "mask of another size": (
        GOOD | {"segmentation": encode_rle(MASKS[0].T)},
        r"entry 1: a mask's size is \[96, 64\], the image's \[64, 96\]",
    ),
    "mask cut": (
        GOOD | {"segmentation": {"size": [64, 96], "counts": encode_rle(MASKS[0])["counts"][:-1]}},
        "entry 1: the (run lengths add up|counts are broken)",
    ),
    "mask as bytes": (
        GOOD | {"segmentation": {"size": [64, 96], "counts": "b'U<d0'"}},
        "entry 1: the counts begin with b'",
    ),
    "mask of plain counts": (
        GOOD | {"segmentation": {"size": [64, 96], "counts": [1, 2]}},
        "entry 1: the run lengths add up to 3 pixels",
    ),
    "polygon with nan": (
        GOOD | {"segmentation": [[math.nan, 1, 2, 3, 4, 5]]},
        "entry 1: a coordinate is nan",
    ),
    "polygon far away": (
        GOOD | {"segmentation": [[1e9, 1, 2, 3, 4, 5]]},
        "entry 1: it reaches from x = 2 to 1000000000.0",
    ),
    "polygon of two points": (GOOD | {"segmentation": [[1, 2, 3, 4]]}, "a polygon has 4 numbers"),
}


@pytest.mark.parametrize("case", BAD)
def test_results_that_cannot_be_used(dataset, tmp_path, case):
    entry, message = BAD[case]
    refused(write(tmp_path / "found.json", [GOOD, entry]), dataset(), message)


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


def test_files_that_are_no_results(dataset, tmp_path):
    data = dataset()
    path = tmp_path / "found.json"
    refused(write(path, {"annotations": []}), data, "isn't a list of COCO results but holds an obj")
    path.write_text("[" * 100_000)
    refused(path, data, "nested too deeply")
    with pytest.raises(FileNotFoundError, match=r"predictions\.json is missing"):
        find_coco_predictions(tmp_path, "instance", data.images, data)


def test_all_faults_are_listed(dataset, tmp_path):
    entries = [result(k % 3, k % 3 + 1, score=None if k % 2 else 0.5) for k in range(30)]
    path = write(tmp_path / "found.json", entries)
    refused(path, dataset(), r"15 entries can't be used \(15 x score\); write the results anew:")


def test_polygons_are_drawn(dataset, tmp_path):
    polygon = [[5, 10, 35, 10, 35, 40, 5, 40]]
    path = write(tmp_path / "found.json", [result(0, 1, segmentation=polygon)])
    assert score(path, dataset()).per_category["cat"].ap50 > 0.4


# --- which image is meant ---


def test_numbers_are_ids_and_text_names_files(dataset, tmp_path):
    path = tmp_path / "found.json"
    for ids in ((1, 2, 3), ("0.png", "1.png", "2.png"), ("0", 2, 3)):
        assert score(write(path, results(*ids)), dataset()).ap == pytest.approx(1)
    # As m2f predict once wrote them: numbers that are the files' names.
    refused(
        write(path, results(0, 1, 2)),
        dataset(),
        r"entry 0: 0 is no image's id, but the name of 0.png \(id 1\); write that id",
    )
    # Text that is both.
    refused(
        write(path, results("0", "1", "2")),
        dataset(),
        r"entry 1: '1' is both 1.png \(id 2\) and 0.png \(id 1\)",
    )


@pytest.mark.parametrize(
    ("files", "ids", "named"),
    [
        (("a/1.png", "b/1.png", "c.png"), (7, 8, 9), ("a/1", "b/1.png", "c")),
        (("a/1.png", "b/2.png", "b/3.png"), (7, 8, 9), ("1", "2.png", "x/b/3")),
        (("a/1.png", "1.png", "b/3.png"), (7, 8, 9), ("a/1", "1", "3")),
        (("1.png", "2.png", "3.png"), ("x", "y/z", "%"), ("x", "y/z", "%")),
        (("1.png", "2.png", "3.png"), ("x", "y", "z"), (1, 2, 3)),
        (("a.jpg", "a.png", "b.c.png"), (7, 8, 9), ("a.jpg", "a.png", "b.c")),
        (("007.png", "7.png", "²³.png"), (7, 8, 9), ("007", 8, "²³")),
        (("1.png", "2.png", "3.png"), ("a/b", "a%2Fb", "a%252Fb"), ("a/b", "a%2Fb", "3")),
        (("1.png", "2.png", "3.png"), ("x" * 300, "x" * 301, "a/" * 90), ("1", "2", "a/" * 90)),
    ],
)
def test_names_of_images(dataset, files, ids, named):
    images = dataset(files=files, ids=ids).images
    names = ImageNames(images)
    by_file = {image.file_name: image.name for image in images}
    assert [names.name_of(x) for x in named] == [by_file[file] for file in files]
    assert len(set(by_file.values())) == 3
    assert all(len(name) <= 200 and "/" not in name for name in by_file.values())
    assert names.name_of("nothing") is None


@pytest.mark.parametrize(
    ("files", "ids", "name"),
    [
        (("a/1.png", "b/1.png", "c.png"), (7, 8, 9), "1"),
        (("a.jpg", "a.png", "c.png"), (7, 8, 9), "a"),
        (("8.png", "9.png", "7.png"), (7, 8, 9), "8"),
        (("b.png", "a.png", "c.png"), ("a", "b", "c"), "a"),
    ],
)
def test_names_of_several_images(dataset, files, ids, name):
    names = ImageNames(dataset(files=files, ids=ids).images)
    with pytest.raises(ValueError, match=f"'{name}' is both "):
        names.name_of(name)


def listed(*files, size=SIZE):
    height, width = size
    return [
        {"id": k, "file_name": file, "height": height, "width": width}
        for k, file in enumerate(files)
    ]


@pytest.mark.parametrize(
    ("files", "predicted"),
    [
        (("0.png", "1.png", "2.png"), ("0.png", "1.png", "2.png")),
        (("0.png", "1.png", "2.png"), ("val/0.png", "val/1.png", "val/2.png")),
        (("a/0.png", "a/1.png", "a/2.png"), ("0.png", "1.png", "2.png")),
        (("a/0.png", "b/0.png", "0.png"), ("a/0.png", "b/0.png", "0.png")),
        (("a/b/0.png", "b/0.png", "2.png"), ("x/a/b/0.png", "x/b/0.png", "x/2.png")),
    ],
)
def test_what_predict_wrote_is_found_by_its_list_of_images(dataset, tmp_path, files, predicted):
    """Its ids are others than the data set's, and some are those of other images."""
    data = dataset(files=files)
    write(tmp_path / "out" / "images.json", listed(*predicted))
    write(tmp_path / "out" / "predictions.json", results(0, 1, 2))
    assert score(tmp_path / "out", data).ap == pytest.approx(1)
    assert score(tmp_path / "out" / "predictions.json", data).ap == pytest.approx(1)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (listed("0.png", "1.png"), r"entry 2: image 2 isn't listed in .*images\.json"),
        (
            listed("a/0.png", "b/0.png", "1.png"),
            r"a/0.png .* and b/0.png .* would both be",
        ),
        (listed("0.png", "1.png", "9.png"), "entry 2: it is about image 2, which isn't in the gr"),
        (
            listed("0.png", "1.png", "2.png", size=(96, 64)),
            r"0.png .* has 96 x 64 pixels",
        ),
        (listed("0.png", "1.png", None), r"images\.json\[2\] \(id 2\): file_name is null"),
        ({"pictures": []}, "images.json has no 'images'"),
    ],
)
def test_lists_of_images_that_do_not_fit(dataset, tmp_path, images, message):
    write(tmp_path / "out" / "images.json", images)
    write(tmp_path / "out" / "predictions.json", results(0, 1, 2))
    data = dataset()
    with pytest.raises(ValueError, match=message) as caught:
        find_coco_predictions(tmp_path / "out", "instance", data.images, data)
    assert str(tmp_path / "out") in str(caught.value)


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([(2, "cat"), (1, "dog")], r"the model's 'cat' has the id 2, but in .* 'dog' has that id"),
        ([(0, "cat"), (1, "dog")], r"the model's 'cat' has the id 0, but in .* its id is 1"),
        ([(1, "cat"), (2, "fox")], r"the model's 'fox' has the id 2, but in .* 'dog' has that id"),
        ([(1, None)], r"categories\.json\[0\] \(id 1\): name is null"),
        (3, r"categories\.json holds 3, not a list of categories"),
    ],
)
def test_categories_of_other_ids(dataset, tmp_path, categories, message):
    if isinstance(categories, list):
        categories = [{"id": id_, "name": name} for id_, name in categories]
    write(tmp_path / "out" / "images.json", listed("0.png", "1.png", "2.png"))
    write(tmp_path / "out" / "predictions.json", results(0, 1, 2))
    write(tmp_path / "out" / "categories.json", categories)
    data = dataset()
    for task in ("instance", "semantic"):
        with pytest.raises(ValueError, match=message):
            find_coco_predictions(tmp_path / "out", task, data.images, data)
    more = [{"id": 1, "name": "cat"}, {"id": 9, "name": "fox"}, {"id": 2, "name": "dog"}]
    write(tmp_path / "out" / "categories.json", more)
    assert score(tmp_path / "out", data).ap == pytest.approx(1)


def test_a_list_of_images_is_left_alone_beside_other_files(dataset, tmp_path):
    write(tmp_path / "images.json", {"something": "else"})
    assert score(write(tmp_path / "found.json", results(1, 2, 3)), dataset()).ap > 0.99


def test_exports_do_not_go_where_predict_wrote(dataset, tmp_path):
    data = dataset()
    assert export_folder(tmp_path / "out", data, "instance") == tmp_path / "out" / "predictions"
    write(tmp_path / "out" / "images.json", [])
    with pytest.raises(FileExistsError, match="out holds what m2f predict wrote"):
        export_folder(tmp_path / "out", data, "instance")


# --- semantic segmentation ---


def classes(k):
    """Category ids of every pixel of image k; within its object, the right one."""
    return np.where(MASKS[k], k % 2 + 1, 2 - k % 2)


def save_maps(folder, names):
    folder.mkdir(parents=True)
    for k, name in enumerate(names):
        path = folder / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(classes(k).astype(np.uint16 if k else np.uint8)).save(path)
    return folder


def masks_of_categories(*image_ids):
    return [
        {"image_id": image_id, "category_id": id_, "segmentation": encode_rle(classes(k) == id_)}
        for k, image_id in enumerate(image_ids)
        for id_ in (1, 2)
    ]


@pytest.mark.parametrize(
    "names", [("0", "1.png", "2"), ("x/0", "x/1.png", "x/2"), ("1_pred", "2_pred", "3_pred")]
)
def test_maps_of_category_ids(dataset, tmp_path, names):
    folder = save_maps(tmp_path / "maps", names)
    assert score(folder, dataset("semantic"), "semantic").miou == 1
    # Pixels without an object aren't asked for, so what is wrong has to be inside of one.
    Image.fromarray(np.full(SIZE, 2, np.uint8)).save(folder / f"{names[0]}.png")
    assert score(folder, dataset("semantic"), "semantic").miou < 1


@pytest.mark.parametrize(
    ("name", "ids", "message"),
    [
        ("0", np.full(SIZE, 3, np.uint8), r"0\.png has the ids \[3\], which no category"),
        ("0", np.zeros(SIZE, np.uint16), r"0\.png has the ids \[0\], which no category"),
        ("0", np.ones((9, 9), np.uint8), r"0\.png has 9 x 9 pixels"),
        ("9", np.ones(SIZE, np.uint8), r"9\.png isn't about an image of the ground truth"),
        ("1", np.ones(SIZE, np.uint8), "image 2 has two files"),
        ("1_pred", np.ones(SIZE, np.uint8), "image 1 has two files"),
        ("0.png", np.ones(SIZE, np.uint8), "image 1 has two files"),
    ],
)
def test_maps_that_do_not_fit(dataset, tmp_path, name, ids, message):
    folder = save_maps(tmp_path / "maps", ("0", "1.png", "2"))
    Image.fromarray(ids).save(folder / f"{name}.png")
    with pytest.raises(ValueError, match=message):
        score(folder, dataset("semantic"), "semantic")


def test_missing_maps_are_counted(dataset, tmp_path):
    folder = save_maps(tmp_path / "maps", ("0", "1.png", "2"))
    (folder / "2.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"maps has no 2\.png, and lacks 1 of 3 images"):
        score(folder, dataset("semantic"), "semantic")


def test_a_mask_per_category(dataset, tmp_path):
    data = dataset("semantic")
    write(tmp_path / "out" / "images.json", listed("0.png", "1.png", "2.png"))
    path = write(tmp_path / "out" / "predictions.json", masks_of_categories(0, 1, 2))
    assert score(tmp_path / "out", data, "semantic").miou == 1
    assert score(write(path, masks_of_categories(0, 1, 2)[1:]), data, "semantic").miou < 1
    path = write(tmp_path / "found.json", masks_of_categories(1, 2, 3))
    assert score(path, data, "semantic").miou == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (masks_of_categories(1, 2), "has no entry for image 3, and lacks 1 of 3 images in all"),
        ([result(0, 1, category_id=9), *results(1, 2, 3)], r"the category ids \[9\] aren't among"),
        ([result(0, 1, score="x"), *results(1, 2, 3)], "entry 0: score is the text 'x'"),
        ([*results(1, 2, 3), result(0, 1)], "entry 3 overlaps another one of image 1"),
        ([None], "entry 0: it is null, not an object"),
    ],
)
def test_masks_of_categories_that_do_not_fit(dataset, tmp_path, entries, message):
    path = write(tmp_path / "found.json", entries)
    with pytest.raises(ValueError, match=message) as caught:
        score(path, dataset("semantic"), "semantic")
    assert str(path) in str(caught.value)


# --- the command ---


def test_neither_pictures_nor_their_folder_are_needed(tmp_path, capsys):
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    save_maps(tmp_path / "maps", ("0", "1.png", "2"))
    out = tmp_path / "out"
    command = ["eval", "coco", str(truth), "--out", str(out)]
    assert main([*command, "--predictions", str(found)]) == 0
    scores = json.loads((out / "results.json").read_text())["scores"]
    assert scores["AP"] == pytest.approx(100)
    semantic = ["--task", "semantic", "--predictions", str(tmp_path / "maps")]
    assert main([*command, *semantic]) == 0
    assert json.loads((out / "results.json").read_text())["scores"] == {"mIoU": 100}
    assert "miou" in (out / "report.html").read_text().lower()
    capsys.readouterr()
    assert main(command) == 1
    assert "name the folder of the images after the annotations" in capsys.readouterr().err


@pytest.mark.parametrize("tool", TOOLS)
def test_the_tool_that_computed_is_named(tmp_path, capsys, tool):
    pytest.importorskip(tool.replace("-", "_"), reason=f"needs {tool}, of the extra coco")
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    out = tmp_path / "out"
    command = ["eval", "coco", str(truth), "--predictions", str(found), "--tool", tool]
    assert main([*command, "--out", str(out)]) == 0
    assert f"computed by {tool} " in capsys.readouterr().out
    content = json.loads((out / "results.json").read_text())
    assert content["official"]["tool"].startswith(f"{tool} ")
    assert content["scores"]["AP"] == pytest.approx(100)
    assert f"{tool} " in (out / "report.html").read_text()
    assert main([*command, "--task", "semantic"]) == 1
    assert f"--tool {tool} computes AP; --task semantic has no such tool" in capsys.readouterr().err


def test_a_tool_that_is_not_installed_is_refused_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    command = ["eval", "coco", str(truth), "--predictions", str(found)]
    assert main([*command, "--tool", "faster-coco-eval", "--out", str(tmp_path / "out")]) == 1
    assert "m2f eval needs faster_coco_eval: pip install 'm2f-jax[coco]'" in capsys.readouterr().err
    assert not (tmp_path / "out" / "results.json").exists()


FLAT = {"segmentation": [[1, 5, 9, 5, 20, 5]]}
FILES = {  # what is otherwise in the annotations, entries of the results, and in the output
    "sound": ({}, results(1, 2, 3), "m2f: {truth}: outlines that enclose no area: 1"),
    "to be read one by one": ({}, [*results(1), GOOD | {"more": 1}], "average"),
    "broken results": ({}, [GOOD, GOOD | {"score": None}], "m2f: {found}: entry 1: score is null"),
    "results of others": ({}, results(1, 9), "m2f: {found}: entry 1: it is about image 9"),
    "broken annotations": (
        {"category_id": 7},
        [GOOD | {"score": None}],
        "m2f: {truth}: annotation 3: category_id is 7, which isn't",
    ),
}


@pytest.mark.parametrize("case", FILES)
def test_files_read_by_two_processes_give_what_one_finds(tmp_path, capfd, monkeypatch, case):
    changes, entries, message = FILES[case]
    content = content_of()
    content["annotations"][2] |= FLAT | changes
    truth = write(tmp_path / "truth.json", content)
    found = write(tmp_path / "found.json", entries)
    command = ["eval", "coco", str(truth), "--predictions", str(found)]
    seen = []
    for large in (math.inf, 0):
        monkeypatch.setattr(reading, "LARGE", large)
        code, output = main(command), capfd.readouterr()
        failures = [line for line in output.err.splitlines() if str(found) in line]
        seen.append((code, output.out, failures))
    assert seen[0] == seen[1]
    assert message.format(truth=truth, found=found) in output.out + output.err


def test_a_process_that_ends_early_is_not_needed(tmp_path, capsys, monkeypatch):
    truth = write(tmp_path / "truth.json", content_of())
    found = write(tmp_path / "found.json", results(1, 2, 3))
    monkeypatch.setattr(reading, "LARGE", 0)
    monkeypatch.setattr(reading, "send_annotations", os._exit)
    assert main(["eval", "coco", str(truth), "--predictions", str(found)]) == 0
    assert "AP 100.0" in capsys.readouterr().out


@pytest.mark.parametrize("task", ["instance", "semantic"])
def test_results_without_objects_are_strict_json(tmp_path, task):
    truth = write(tmp_path / "truth.json", content_of() | {"annotations": []})
    found = write(tmp_path / "found.json", [])
    if task == "semantic":
        found = save_maps(tmp_path / "maps", ("0", "1.png", "2"))
    out = tmp_path / "out"
    command = ["eval", "coco", str(truth), "--out", str(out), "--task", task]
    assert main([*command, "--predictions", str(found)]) == 0

    def refuse(constant):
        raise AssertionError(constant)

    content = json.loads((out / "results.json").read_text(), parse_constant=refuse)
    assert set(content["scores"].values()) == {None}
    assert "nan" not in (out / "report.html").read_text().lower().split("<body", 1)[1]


class Fiftyone:
    """What docs/evaluate.md uses of fiftyone 1.x; it reads annotations by the same keys."""

    types = SimpleNamespace(COCODetectionDataset=object())

    def __init__(self):
        self.shown, self.labels = None, []
        self.Dataset = SimpleNamespace(from_dir=self.from_dir)
        self.utils = SimpleNamespace(coco=SimpleNamespace(add_coco_labels=self.add))

    def from_dir(self, *, dataset_type, data_path, labels_path, label_types, include_id):
        assert (dataset_type, label_types, include_id) == (
            self.types.COCODetectionDataset,
            "segmentations",
            True,
        )
        content = json.loads(Path(labels_path).read_text())
        assert all(Path(data_path, image["file_name"]).is_file() for image in content["images"])
        return {image["id"]: (image["width"], image["height"]) for image in content["images"]}

    def add(self, data, field, found, categories, *, label_type, coco_id_field):
        assert (field, label_type, coco_id_field) == ("m2f", "segmentations", "coco_id")
        names = {category["id"]: category["name"] for category in categories}
        for one in found:
            width, height = data[one["image_id"]]
            left, top, across, down = one["bbox"]
            assert one["segmentation"]["size"] == [height, width]
            mask = decode_rle(one["segmentation"]["counts"].encode(), (height, width))
            rows, columns = np.nonzero(mask)
            assert (left, top) == (columns.min(), rows.min())
            assert (left + across, top + down) == (columns.max() + 1, rows.max() + 1)
            assert isinstance(one["score"], float)
            self.labels.append((one["image_id"], names[one["category_id"]]))

    def launch_app(self, data):
        self.shown = data


def test_exports_open_in_fiftyone_as_the_documentation_says(tmp_path, monkeypatch):
    write(tmp_path / "instances_val2017.json", content_of())
    for file in ("0.png", "1.png", "2.png"):
        (tmp_path / "val2017").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((*SIZE, 3), np.uint8)).save(tmp_path / "val2017" / file)
    data = coco_dataset(tmp_path / "instances_val2017.json", tmp_path / "val2017", "instance")
    place = export_folder(tmp_path / "export", data, "instance")
    evaluation = evaluation_of(data, "instance", export=place)
    for i, mask in enumerate(MASKS):
        found = InstanceSegmentation.from_masks(
            scores=np.array([0.9], np.float32),
            labels=np.array([i % 2], np.int32),
            masks=mask[None],
            queries=np.array([0], np.int32),
        )
        evaluation.measure(i, None, found)
    finish_export(place, data, "instance", 3)
    page = (Path(__file__).parents[3] / "docs" / "evaluate.md").read_text()
    program = page.split("## In fiftyone")[1].split("```python\n")[1].split("```")[0]
    fake = Fiftyone()
    monkeypatch.setitem(sys.modules, "fiftyone", fake)
    monkeypatch.setitem(sys.modules, "fiftyone.utils", fake.utils)
    monkeypatch.setitem(sys.modules, "fiftyone.utils.coco", fake.utils.coco)
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "docs/evaluate.md", "exec"), {})
    assert fake.labels == [(1, "cat"), (2, "dog"), (3, "cat")]
    assert fake.shown == dict.fromkeys((1, 2, 3), (96, 64))
