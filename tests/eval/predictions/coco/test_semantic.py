"""Semantic predictions for COCO: maps of ids, and a mask for each category."""

import numpy as np
import pytest
from PIL import Image

from m2f_jax.masks.rle import encode_rle
from tests.eval.predictions.coco.case import (
    SIZE,
    classes,
    listed,
    result,
    results,
    save_maps,
    score,
    write,
)


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
