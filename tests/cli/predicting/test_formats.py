"""What is written: maps, COCO's files, and what options change."""

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from m2f_jax.labels import Label
from tests.cli.predicting.conftest import LABELS, annotations, picture, read, reds


def test_semantic_maps_hold_large_ids(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    for ids, mode in (((301, 557), "I;16"), ((0, 65_535), "I;16"), ((0, 255), "L")):
        labels = [Label(id=i, name=str(i), is_thing=True) for i in ids]
        run.model = {"labels": tuple(labels)}
        assert run(path, "--task", "semantic", "--overwrite", out=out) == 0
        with Image.open(out / "maps" / "p.png") as png:
            assert png.mode == mode
            assert set(np.unique(np.asarray(png))) == set(ids)
        assert {x["category_id"] for x in read(out / "predictions.json")} == set(ids)


@pytest.mark.parametrize("number", [-1, 65_536])
def test_ids_that_no_map_can_hold_are_refused(number, run, tmp_path):
    path = picture(tmp_path / "p.png")
    run.model = {"labels": (LABELS[0], Label(id=number, name="odd", is_thing=True))}
    assert run(path, "--task", "semantic", out=tmp_path / "o") == 1
    assert f"the class odd has the id {number}" in run.text
    assert run(path, "--task", "panoptic", out=tmp_path / "o") == 0


def test_pycocotools_takes_the_masks_areas(run, tmp_path):
    picture(tmp_path / "in" / "0.png")
    file = annotations(tmp_path / "a.json", [{"id": 1, "file_name": "0.png"}])
    assert run(tmp_path / "in", "--annotations", file, "--threshold", "0", out=tmp_path / "o") == 0
    results = COCO(str(file)).loadRes(str(tmp_path / "o" / "predictions.json")).loadAnns([1, 2])
    for result in results:
        assert result["image_id"] == 1
        assert result["area"] == coco_mask.area(result["segmentation"]) == 12


def test_boxes_come_back_when_asked_for(run, tmp_path):
    path, out = picture(tmp_path / "p.png"), tmp_path / "o"
    assert run(path, out=out) == 0
    assert all("bbox" not in x for x in read(out / "predictions.json"))
    assert run(path, "--boxes", out=out) == 0
    for result in read(out / "predictions.json"):
        assert result["bbox"] == coco_mask.toBbox(result["segmentation"]).tolist()
    assert "1 of 1 images are done already" in run.text


def test_ids_of_annotations(run, tmp_path):
    out = tmp_path / "o"
    for i, name in enumerate(("0.png", "1.png", "sub/2.png", "3.png")):
        picture(tmp_path / "in" / name, 200 + i)
    images = [{"id": 7 - i, "file_name": f"{i}.png"} for i in range(2)]
    file = annotations(tmp_path / "a.json", [*images, {"id": 0, "file_name": "sub/2.png"}])
    assert run(tmp_path / "in", "--annotations", file, out=out) == 1
    [line] = [line for line in run.lines if "3.png" in line]
    assert f"1 of 4 images aren't in {file} and are left out" in line
    assert reds(out) == {7: 200, 6: 201, 0: 202}
    assert run(tmp_path / "in", out=out) == 0
    assert run(tmp_path / "in" / "0.png", "--annotations", file, out=out) == 1
    assert f"{out} holds results of 3.png, which isn't among the images of {file}" in run.text


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "images is null"),
        ([3], "images[0] is 3"),
        ([{"file_name": "p.png"}], "images[0] has no id"),
        ([{"id": 1}], "the image of the id 1 has no file_name"),
        ([{"id": 1.5, "file_name": "p.png"}], "images[0]: id is 1.5"),
        ([{"id": True, "file_name": "p.png"}], "images[0]: id is true"),
        ([{"id": None, "file_name": "p.png"}], "images[0]: id is null"),
        ([{"id": 1, "file_name": "p.png"}, {"id": 2, "file_name": "p.png"}], "another image's"),
        ([{"id": 1, "file_name": "p.png"}, {"id": 1, "file_name": "q.png"}], "share the id 1"),
        ([{"id": 1, "file_name": "else.png"}], "name the folder"),
    ],
)
def test_annotations_without_usable_images_are_named(images, message, run, tmp_path):
    path = picture(tmp_path / "p.png")
    file = annotations(tmp_path / "a.json", images)
    assert run(path, "--annotations", file, out=tmp_path / "o") == 1
    [line] = run.lines
    assert str(file) in line
    assert message in line
    assert not (tmp_path / "o").exists()


def test_exif_by_option(run, tmp_path):
    path = tmp_path / "p.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(path, exif=exif)
    for options, size in (([], (6, 4)), (["--ignore-exif", "--overwrite"], (4, 6))):
        assert run(path, *options, out=tmp_path / "o") == 0
        [image] = read(tmp_path / "o" / "images.json")
        assert (image["height"], image["width"]) == size
    assert run(path, out=tmp_path / "o") == 1
    assert "ignore_exif True there, False now" in run.text


def test_top_k(run, tmp_path):
    path = picture(tmp_path / "p.png")
    for count in (1, 2, 200):
        options = ["--top-k", count, "--threshold", "0", "--overwrite"]
        assert run(path, *options, out=tmp_path / "o") == 0
        assert len(read(tmp_path / "o" / "predictions.json")) == min(count, 2)
