"""Results beside the list of images that `m2f predict` writes."""

import pytest
from m2f_jax.eval.predictions.coco import find_coco_predictions
from m2f_jax.eval.predictions.exports import export_folder

from tests.eval.predictions.coco.case import listed, results, score, write


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
