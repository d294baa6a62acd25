"""The strict reader of COCO's format: what it refuses, passes over and warns of, everywhere."""

import copy
import json
import logging
import math

import numpy as np
import pytest
from m2f_jax.eval.metrics.coco.annotations import CocoAnnotations

from m2f_jax.cli import main
from m2f_jax.cli.training.data import find_data
from m2f_jax.datasets.coco_format.file import check_coco, read_coco_file
from m2f_jax.datasets.coco_format.objects import CocoSegment
from m2f_jax.masks.rle import encode_rle

SIZE = (64, 96)
BOX = [30, 30, 50, 30, 50, 50, 30, 50]
MASK = np.zeros(SIZE, bool)
MASK[5:25, 5:25] = True
RLE = encode_rle(MASK)


def sound():
    """Three images, two categories, an encoding and two polygons."""
    segmentations = [RLE, [BOX], [[40, 10, 70, 10, 70, 40, 40, 40]]]
    return {
        "images": [
            {"id": k + 1, "file_name": f"{k}.png", "height": 64, "width": 96} for k in range(3)
        ],
        "annotations": [
            {"id": k + 1, "image_id": k + 1, "category_id": k % 2 + 1, "iscrowd": 0, "area": 400}
            | {"segmentation": segmentation, "bbox": [5, 5, 20, 20]}
            for k, segmentation in enumerate(segmentations)
        ],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }


def changed(where, **changes):
    """The sound content with other values in an entry; `...` takes the value away."""
    content = sound()
    name, number = where
    entry = content[name][number] | changes
    content[name][number] = {key: value for key, value in entry.items() if value is not ...}
    return content


def second(**changes):
    return changed(("annotations", 1), **changes)


def outline(segmentation):
    return second(segmentation=segmentation)


def far(value, place=0):
    return outline([[*BOX[:place], value, *BOX[place + 1 :]]])


def counts(value, size=SIZE):
    return outline({"size": list(size), "counts": value})


STRUCTURE = {
    "a list": ([sound()], "holds a list; COCO's format is an object"),
    "a number": (3, "holds 3; COCO's format is an object"),
    "no categories": ({k: sound()[k] for k in ("images", "annotations")}, "has no 'categories'"),
    "annotations null": (sound() | {"annotations": None}, "annotations is null, not a list"),
    "images an object": (sound() | {"images": {}}, "images is an object, not a list"),
    "an image null": (sound() | {"images": [None]}, r"images\[0\] is null, not an object"),
    "an annotation text": (sound() | {"annotations": ["x"]}, r"annotations\[0\] is the text 'x'"),
    "a category a number": (sound() | {"categories": [7]}, r"categories\[0\] is 7, not an object"),
    "mixed image ids": (changed(("images", 1), id="2"), r"images\[1\]: id is the text '2', but"),
    "mixed annotation ids": (second(id="b"), r"annotations\[1\]: id is the text 'b', but"),
    "same image id": (changed(("images", 1), id=1), r"images\[0\] and \[1\] share the id 1"),
    "same category id": (changed(("categories", 1), id=1), r"\[0\] and \[1\] share the id 1"),
    "same annotation id": (second(id=1), r"annotations\[0\] and \[1\] share the id 1"),
    "image id float": (changed(("images", 0), id=1.0), r"images\[0\]: id is 1.0; it must be"),
    "image id true": (changed(("images", 0), id=True), r"images\[0\]: id is true; it must be"),
    "image id null": (changed(("images", 0), id=None), r"images\[0\]: id is null"),
    "image id a list": (changed(("images", 0), id=[1]), r"images\[0\]: id is a list"),
    "image without id": (changed(("images", 2), id=...), r"images\[2\] has no id"),
    "image id of two lines": (changed(("images", 0), id="\0"), "can't be part of a file's name"),
    "image id without end": (changed(("images", 0), id="x" * 9999), "text of 1 to 4096 bytes"),
    "category id text": (
        changed(("categories", 0), id="1"),
        r"categories\[0\]: id is the text '1'",
    ),
    "category id float": (changed(("categories", 0), id=1.5), r"\[0\]: id is 1.5; it must be a wh"),
    "category id null": (changed(("categories", 1), id=None), r"categories\[1\]: id is null"),
    "category id true": (changed(("categories", 1), id=True), r"categories\[1\]: id is true"),
    "category id huge": (changed(("categories", 1), id=10**30), r"categories\[1\]: id is 10000"),
    "category name null": (changed(("categories", 1), name=None), r"\(id 2\): name is null"),
    "category name empty": (changed(("categories", 1), name=""), r"\(id 2\): name is the text ''"),
    "category without name": (changed(("categories", 0), name=...), r"categories\[0\] has no name"),
    "isthing text": (changed(("categories", 0), isthing="1"), r"\(id 1\): isthing is the text '1'"),
    "height text": (changed(("images", 0), height="64"), r"\(id 1\): height is the text '64'; it"),
    "width null": (changed(("images", 1), width=None), r"\(id 2\): width is null; it must be a wh"),
    "height zero": (changed(("images", 1), height=0), r"\(id 2\): height is 0; it must be a whole"),
    "width negative": (changed(("images", 1), width=-96), r"\(id 2\): width is -96; it must be"),
    "height float": (changed(("images", 1), height=64.5), r"\(id 2\): height is 64.5"),
    "width beyond sense": (changed(("images", 1), width=10**9), r"\(id 2\): width is 1000000000"),
    "pixels beyond sense": (changed(("images", 1), height=10**5, width=10**5), "more than 1073741"),
    "no height": (changed(("images", 2), height=...), r"\(id 3\) has no height"),
    "name null": (changed(("images", 0), file_name=None), r"\(id 1\): file_name is null"),
    "name a number": (changed(("images", 0), file_name=0), r"\(id 1\): file_name is 0"),
    "name absolute": (changed(("images", 0), file_name="/etc/passwd"), "leads out of its folder"),
    "name above": (changed(("images", 0), file_name="a/../../b.png"), "leads out of its folder"),
    "name of the folder": (changed(("images", 0), file_name="a/.."), "leads out of its folder"),
    "name of two lines": (changed(("images", 0), file_name="a\0b"), "file_name is the text 'a"),
    "same name, both used": (
        changed(("categories", 1), name="cat"),
        "the categories 1 and 2 are both called 'cat' and have objects",
    ),
}

OBJECTS = {
    "unknown image": (second(image_id=9), "annotation 2: image_id is 9, which isn't the id"),
    "image id as text": (second(image_id="2"), "annotation 2: image_id is the text '2'"),
    "image id as float": (second(image_id=2.0), "annotation 2: image_id is 2.0"),
    "image id as true": (second(image_id=True), "annotation 2: image_id is true"),
    "image id a list": (second(image_id=[2]), "annotation 2: image_id is a list"),
    "no image": (second(image_id=...), "annotation 2: it has no image_id"),
    "unknown category": (second(category_id=9), "annotation 2: category_id is 9, which isn't"),
    "category null": (second(category_id=None), "annotation 2: category_id is null"),
    "category as text": (second(category_id="2"), "annotation 2: category_id is the text '2'"),
    "category as an object": (second(category_id={}), "annotation 2: category_id is an object"),
    "without an id": (second(id=..., image_id=9), r"annotations\[1\]: image_id is 9"),
    "crowd as text": (second(iscrowd="0"), "annotation 2: iscrowd is the text '0'"),
    "crowd null": (second(iscrowd=None), "annotation 2: iscrowd is null"),
    "crowd two": (second(iscrowd=2), "annotation 2: iscrowd is 2; it must be the number 0 or 1"),
    "area as text": (second(area="400"), "annotation 2: area is the text '400'"),
    "area null": (second(area=None), "annotation 2: area is null"),
    "area nan": (second(area=math.nan), "annotation 2: area is nan"),
    "area infinite": (second(area=math.inf), "annotation 2: area is inf"),
    "area negative": (second(area=-4), "annotation 2: area is -4"),
    "area beyond floats": (second(area=10**400), "annotation 2: area is 1000"),
    "nan": (far(math.nan), "annotation 2: a coordinate is nan"),
    "nan in the middle": (far(math.nan, 5), "annotation 2: a coordinate is nan"),
    "infinite": (far(-math.inf, 2), "annotation 2: a coordinate is -inf"),
    "null": (far(None), "annotation 2: a coordinate is null"),
    "text": (far("30", 7), "annotation 2: a coordinate is the text '30'"),
    "true": (far(True, 4), "annotation 2: a coordinate is true"),
    "points in lists": (outline([[[30, 30], [50, 30], [50, 50], [30, 50]] * 2]), "is a list"),
    "far": (far(1e9), "annotation 2: it reaches from x = 30 to 1000000000.0 and y = 30 to 50,"),
    "far above": (far(-1e8, 3), "annotation 2: .* and y = -100000000.0 to 50"),
    "beyond floats": (far(10**400), "annotation 2: it reaches"),
    "a little too far": (far(11 * 96 + 1), "annotation 2: it reaches from"),
    "endless": (
        outline([[0, 0, 900, 600] * 5000]),
        "annotation 2: its polygons are 9000000 pixels long",
    ),
    "endless together": (outline([[0, 0, 900, 600] * 50] * 60), "polygons are 5400000 pixels long"),
    "two points": (outline([BOX, [1, 1, 5, 5]]), "annotation 2: a polygon has 4 numbers"),
    "odd": (outline([BOX[:-1]]), "annotation 2: a polygon has 7 numbers"),
    "no points": (outline([[]]), "annotation 2: a polygon has 0 numbers"),
    "flat": (outline(BOX), "annotation 2: a polygon is 30, .*; put the polygon into one more list"),
    "a text": (outline("x"), "annotation 2: it is the text 'x', but segmentation is a list"),
    "normalised": (outline([[x / 96 for x in BOX]]), "annotation 2: all coordinates lie between"),
    "normalised twice": (outline([[0.1, 0.1, 0.2, 0.1, 0.2, 0.2], [0, 0, 1, 0, 1, 1]]), "0 and 1"),
    "empty": (outline([]), "annotation 2: it has a box, but its segmentation is empty or missing"),
    "a box": (second(segmentation=...), "annotation 2: it has a box, but its segmentation"),
    "nothing": (second(segmentation=..., bbox=...), "annotation 2: it has no segmentation"),
    "size": (counts(RLE["counts"], (96, 64)), r"annotation 2: a mask's size is \[96, 64\], the"),
    "size as text": (counts("1", "64"), r"annotation 2: a mask's size is \['6', '4'\]"),
    "cut": (counts(RLE["counts"][:-1]), "annotation 2: the counts are broken off"),
    "a run cut": (counts(RLE["counts"][:-3]), "annotation 2: the run lengths add up to"),
    "long": (counts(encode_rle(np.ones((65, 96), bool))["counts"]), "add up to 6240 pixels"),
    "bytes": (counts(str(RLE["counts"].encode())), "annotation 2: the counts begin with b'"),
    "other characters": (counts("~~"), "annotation 2: the counts have characters that aren't"),
    "surrogates": (counts("\ud800"), "annotation 2: the counts have characters that aren't"),
    "no counts": (counts(""), "annotation 2: the counts are empty"),
    "counts null": (counts(None), "annotation 2: the counts of a mask are neither text nor"),
    "list": (counts([5, 6]), "annotation 2: the run lengths add up to 11 pixels, the image has 64"),
    "negative": (counts([6145, -1]), "annotation 2: the run lengths add up to 6144"),
    "floats": (counts([6144.0]), "annotation 2: the counts of a mask are neither text nor"),
    "without size": (outline({"counts": "1"}), "annotation 2: a mask must be a run-length enc"),
}


@pytest.mark.parametrize("case", STRUCTURE)
@pytest.mark.parametrize("invalid", ["refuse", "skip"])
def test_damaged_structure_is_always_refused(case, invalid):
    content, message = STRUCTURE[case]
    with pytest.raises(ValueError, match=message) as caught:
        check_coco(content, "f.json", invalid)
    assert str(caught.value).startswith("f.json")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("case", OBJECTS)
def test_objects_that_cannot_be_used_are_refused_or_skipped(case, caplog):
    content, message = OBJECTS[case]
    with pytest.raises(ValueError, match=message) as caught:
        check_coco(content, "f.json")
    assert str(caught.value).startswith("f.json: annotation")
    assert "leave such objects out with --invalid skip" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not caplog.records
    kept = check_coco(content, "f.json", "skip")
    assert [found.id for found in kept.objects] == [1, 3]
    [record] = caplog.records
    assert "f.json: left out are 1 x " in record.getMessage()


def test_many_are_listed_and_counted():
    content = sound()
    good = content["annotations"][1]
    content["annotations"] += [good | {"id": 10 + k, "segmentation": [[]]} for k in range(11)]
    content["annotations"] += [good | {"id": 30 + k, "image_id": 7} for k in range(4)]
    with pytest.raises(ValueError, match="15 entries can't be used") as caught:
        check_coco(content, "f.json")
    lines = str(caught.value).splitlines()
    assert "(11 x incomplete polygon, 4 x unknown image)" in lines[0]
    assert "--invalid skip" in lines[0]
    assert len(lines) == 12
    assert lines[1].strip().startswith("annotation 10: ")
    assert lines[-1].strip() == "and 5 more"


def write(folder, content, name="annotations.json"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "images").mkdir(exist_ok=True)
    path = folder / name
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("case", ["null", "cut", "height text", "category id float"])
def test_training_and_evaluation_say_the_same(tmp_path, case):
    content, message = (STRUCTURE | OBJECTS)[case]
    path = write(tmp_path / "train", content)
    errors = []
    for read in (
        lambda: find_data(tmp_path, "instance", None),
        lambda: CocoAnnotations.of(path),
        lambda: read_coco_file(path),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            read()
        errors.append(str(caught.value))
    assert len(set(errors)) == 1
    assert str(path) in errors[0]


def test_the_commands_refuse_and_skip(tmp_path, capsys, caplog):
    path = write(tmp_path / "data" / "train", OBJECTS["far"][0])
    results = tmp_path / "results.json"
    results.write_text("[]")
    train = ["train", "swin-tiny-coco-instance", "--data", str(tmp_path / "data")]
    train += ["--out", str(tmp_path / "run")]
    evaluate = ["eval", "coco", str(path), "--predictions", str(results)]
    for command in (train, evaluate):
        assert main(command) == 1
        assert f"{path}: annotation 2: it reaches" in capsys.readouterr().err
    assert not caplog.records
    assert main([*evaluate, "--invalid", "skip"]) == 0
    assert main([*train, "--invalid", "skip"]) == 1  # there are no pictures
    assert "images can't be used" in capsys.readouterr().err
    assert "--invalid" not in caplog.text
    assert caplog.text.count("left out are 1 x coordinate far outside") == 2


def test_what_is_sound_is_read(tmp_path):
    content = sound()
    path = tmp_path / "bom.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    file = read_coco_file(path)
    assert [image.size for image in file.images] == [SIZE] * 3
    assert [found.outline for found in file.objects[1:]] == [
        x["segmentation"] for x in content["annotations"][1:]
    ]
    assert file.objects[0].outline == RLE["counts"].encode()
    assert [label.name for label in file.categories] == ["cat", "dog"]
    assert file.panoptic is None
    for changes in ({"iscrowd": True}, {"area": ...}, {"id": ...}, {"iscrowd": ...}, {"area": 0}):
        assert len(check_coco(second(**changes), "f.json").objects) == 3
    assert check_coco(far(-900), "f.json").objects[1].outline[0][0] == -900
    assert check_coco(changed(("images", 0), file_name="a/../b.png"), "f").images[0].id == 1


def test_compressed_and_plain_counts_are_the_same():
    runs = [5 * 64 + 5, *[20, 44] * 19, 20]
    runs.append(64 * 96 - sum(runs))
    plain = check_coco(counts(runs), "f.json").objects[1]
    assert plain.outline == RLE["counts"].encode()
    # An empty run in the middle parts nothing; pycocotools would stop comparing there.
    parted = [*runs[:4], 0, 0, *runs[4:]]
    assert check_coco(counts(parted), "f.json").objects[1].outline == plain.outline


def test_an_unused_category_of_a_used_name_is_passed_over(caplog):
    content = sound()
    content["categories"].insert(0, {"id": 0, "name": "dog", "supercategory": "none"})
    file = check_coco(content, "f.json")
    assert [label.id for label in file.categories] == [1, 2]
    assert "f.json: the categories 0, 2 are all called 'dog'; 2 is used" in caplog.text
    content["annotations"] = []
    assert [label.id for label in check_coco(content, "f.json").categories] == [0, 1]


def test_outlines_without_area_are_named(caplog):
    flat = [[4, 7, 30, 7, 20, 7]]
    file = check_coco(outline(flat), "f.json")
    assert file.objects[1].outline == flat
    assert "f.json: outlines that enclose no area: 1, the first one is that of ann" in caplog.text


def test_annotation_0_is_said_to_be_counted(caplog):
    CocoAnnotations.of(sound())
    assert not caplog.records
    objects = CocoAnnotations.of(second(id=0)).objects
    assert len(objects) == 3
    assert "annotation 0 is counted as all others; pycocotools takes" in caplog.text


def test_nothing_is_said_of_sound_files(caplog):
    caplog.set_level(logging.DEBUG)
    check_coco(sound(), "f.json", "skip")
    assert not caplog.records


SEGMENTS = [
    {"id": 1, "category_id": 1, "iscrowd": 0},
    {"id": 70_000, "category_id": 2, "iscrowd": 1},
]


def panoptic(number=0, segment=None, **changes):
    """A panoptic file with other values in an annotation, or in its first segment."""
    entries = [
        {"image_id": k, "file_name": f"{k}.png", "segments_info": copy.deepcopy(SEGMENTS)}
        for k in (1, 2, 3)
    ]
    entries[number] |= changes
    entries[number] = {key: value for key, value in entries[number].items() if value is not ...}
    if segment:
        entries[number]["segments_info"][0] |= segment
    return sound() | {"annotations": entries}


def test_panoptic_files():
    file = check_coco(panoptic(), "f.json")
    assert file.objects == ()
    entry = file.panoptic[3]
    assert entry.file_name == "3.png"
    assert entry.segments == (CocoSegment(1, 1, False), CocoSegment(70_000, 2, True))
    with pytest.raises(ValueError, match="the annotations is a panoptic file; mask AP needs one"):
        CocoAnnotations.of(panoptic())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (panoptic(segments_info=None), r"annotations\[0\]: segments_info is null, not a list"),
        (panoptic(segments_info=[3]), r"annotations\[0\]: segments_info\[0\] is 3, not an object"),
        (panoptic(file_name=None), r"annotations\[0\]: the PNG: file_name is null"),
        (panoptic(file_name="../x.png"), r"annotations\[0\]: .*leads out of its folder"),
        (panoptic(file_name=...), r"annotations\[0\]: the PNG: file_name is null"),
        (panoptic(image_id=9), r"annotations\[0\]: image_id is 9"),
        (panoptic(1, image_id=1), r"annotations\[1\]: image 1 has another one"),
        (panoptic(segment={"id": 0}), r"segments_info\[0\]: id is 0; it must be a whole number, 1"),
        (panoptic(segment={"id": "1"}), r"segments_info\[0\]: id is the text '1'"),
        (panoptic(segment={"id": 2**24}), r"segments_info\[0\]: id is 16777216"),
        (panoptic(segment={"id": 70_000}), r"segments_info\[1\]: the id 70000 is there twice"),
        (panoptic(segment={"category_id": 9}), r"segments_info\[0\]: category_id is 9"),
        (panoptic(segment={"category_id": None}), r"segments_info\[0\]: category_id is null"),
        (panoptic(segment={"iscrowd": "0"}), r"segments_info\[0\]: iscrowd is the text '0'"),
        (panoptic(2, segments_info=...), "some annotations have segments_info and others don't"),
        (
            sound() | {"annotations": panoptic()["annotations"][:2]},
            "image 3 has no panoptic annotation",
        ),
    ],
)
def test_panoptic_files_that_cannot_be_used(content, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_coco(content, "f.json", "skip")
    assert str(caught.value).startswith("f.json: ")
